/** A bucket of the Hub, as far as metrics need it. */
import { commit, listFiles } from "@huggingface/hub";
import type { HubApi } from "./hub-api.ts";
import { HubError } from "./hub-error.ts";

export class Bucket {
  readonly #hub: HubApi;
  readonly #id: string;

  /** `id` is "owner/name". */
  constructor(hub: HubApi, id: string) {
    this.#hub = hub;
    this.#id = id;
  }

  /** Makes it unless it is there. Throws a HubError, also when a private one is wanted and a public one is there. */
  async ensure(visibility: "private" | "public"): Promise<void> {
    const what = `make the bucket ${this.#id}`;
    const path = `/api/buckets/${this.#id}`;
    try {
      const made = await this.#hub.request(what, "POST", path, { visibility });
      if (made !== undefined) return;
    } catch (error) {
      if (!(error instanceof HubError) || error.status !== 409) throw error;
      const found = (await this.#hub.request(what, "GET", path)) as { private?: unknown } | undefined;
      if (found && (visibility === "public" || found.private === true)) return;
      if (found) {
        const hint = "make that bucket private, or choose another name for the Space";
        throw new HubError(`The bucket ${this.#id} is there already, and is not private`, { status: 409, hint });
      }
    }
    throw new HubError(`Hugging Face does not make the bucket ${this.#id}`, { status: 404 });
  }

  /** Puts a file there, whole or not at all. Throws a HubError. */
  async upload(path: string, content: string): Promise<void> {
    const what = `write to the bucket ${this.#id}`;
    const operation = { operation: "addOrUpdate", path, content: new Blob([content]) } as const;
    const repo = { type: "bucket", name: this.#id } as const;
    const done = await this.#hub.attempt(what, async () => {
      await commit({ repo, title: "metrics", operations: [operation], ...this.#hub.parameters });
      return true;
    });
    if (!done) throw new HubError(`There is no bucket ${this.#id}`, { status: 404 });
  }

  /** Paths of the files in a folder, without those in folders below; none when there is no such folder. Throws a HubError. */
  async list(folder: string): Promise<string[]> {
    const repo = { type: "bucket", name: this.#id } as const;
    const found = await this.#hub.attempt(`read the bucket ${this.#id}`, async () => {
      const paths: string[] = [];
      const files = listFiles({ repo, path: folder, ...this.#hub.parameters });
      for await (const { type, path } of files) if (type === "file") paths.push(path);
      return paths;
    });
    return found ?? [];
  }
}
