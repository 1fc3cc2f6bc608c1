/**
 * The inbox of a Space's bucket: rows are put there as files, which trackio imports when it runs, with their times. It is
 * open whether the Space runs or not, and takes what the token may write to the bucket.
 */
import { Bucket } from "./hub/bucket.ts";
import type { HubApi } from "./hub/hub-api.ts";
import { HubError } from "./hub/hub-error.ts";
import { findSpace, type SpaceFacts } from "./hub/spaces.ts";
import { isOlder, ServerFailure, type TrackioServer } from "./trackio-server.ts";
import type { Watermarks } from "./watermarks.ts";

interface InboxParts {
  hub: HubApi;
  /** "owner/name" */
  spaceId: string;
  /** names the destination in the watermarks */
  destination: string;
  watermarks: Watermarks;
  /** called with the bytes of each file before it is sent; throws when they may not leave now */
  spend: (bytes: number) => void;
}

/** the Hub is asked again so often how the Space stands, in milliseconds */
const lookMs = 60_000;
/** and so often when it refused the bucket */
const refusedMs = 600_000;
/** whether files are still there, in milliseconds */
const settleMs = 5000;
/** the first trackio that imports fragments */
const oldestVersion = [0, 28, 0] as const;
const folder = "trackio/inbox";

export class Inbox {
  readonly #parts: InboxParts;
  #bucket: Bucket | undefined;
  #stage: string | undefined;
  #nextLook = 0;
  #triedAt = 0;
  #triedNumber = -1;

  constructor(parts: InboxParts) {
    this.#parts = parts;
  }

  /** Whether rows can be put there. `version`: of the Space's trackio, if it has answered. */
  async isOpen(version: string | undefined): Promise<boolean> {
    if (Date.now() >= this.#nextLook) {
      this.#nextLook = Date.now() + lookMs;
      await this.#look(version).catch((error) => {
        if (!(error instanceof HubError)) throw error;
        this.#bucket = undefined;
      });
    }
    return this.#bucket !== undefined;
  }

  /** False when the Hub said last that the Space does not run: it sleeps, builds, is paused or has failed. */
  get mayRun(): boolean {
    return this.#stage === undefined || this.#stage.startsWith("RUNNING");
  }

  /** Nothing is put there for a while. */
  close(): void {
    this.#bucket = undefined;
    this.#nextLook = Date.now() + refusedMs;
  }

  /** Puts records there as one file; they are kept when it returns. Throws a HubError, or what `spend` throws. */
  async put(records: readonly string[]): Promise<void> {
    const { watermarks, destination, spend } = this.#parts;
    const content = records.map((record) => `${record}\n`).join("");
    spend(Buffer.byteLength(content));
    // a number that was given out is never given out again: a file that waits is not replaced by another
    const { writer, number } = watermarks.takeInboxNumber(destination);
    await this.#opened().upload(`${folder}/${writer}/${String(number).padStart(8, "0")}.jsonl`, content);
  }

  /** Whether the bucket holds a database of the project, and so rows that we may know nothing of. Throws a ServerFailure. */
  async hasDatabase(project: string): Promise<boolean> {
    try {
      return (await this.#opened().list("trackio")).includes(`trackio/${project}.db`);
    } catch (error) {
      throw error instanceof HubError ? new ServerFailure("later", error.message) : error;
    }
  }

  /** False while files of ours may wait there. */
  get isSettled(): boolean {
    const { watermarks, destination } = this.#parts;
    const { number, settled } = watermarks.inboxOf(destination);
    return number === settled;
  }

  /** True when the server, which is awake, has imported all files of ours. */
  async settle(server: TrackioServer): Promise<boolean> {
    if (this.isSettled) return true;
    const { watermarks, destination } = this.#parts;
    const { writer, number } = watermarks.inboxOf(destination);
    if (this.#triedNumber === number && Date.now() - this.#triedAt < settleMs) return false;
    this.#triedNumber = number;
    this.#triedAt = Date.now();
    try {
      // it would import them by itself, some seconds later
      await server.call("force_sync", "{}");
      if ((await this.#opened().list(`${folder}/${writer}`)).length > 0) return false;
    } catch (error) {
      if (error instanceof ServerFailure || error instanceof HubError) return false;
      throw error;
    }
    watermarks.settleInbox(destination, number);
    return true;
  }

  async #look(version: string | undefined): Promise<void> {
    const { hub, spaceId } = this.#parts;
    const space = await findSpace(hub, spaceId);
    this.#stage = space?.stage;
    this.#bucket = space && (await this.#bucketOf(space, version));
  }

  async #bucketOf({ bucketId }: SpaceFacts, version: string | undefined): Promise<Bucket | undefined> {
    const { hub, spaceId } = this.#parts;
    if (bucketId === undefined) return undefined;
    const found = version ?? versionIn((await hub.spaceFile(spaceId, "requirements.txt")) ?? "");
    return found === undefined || isOlder(found, oldestVersion) ? undefined : new Bucket(hub, bucketId);
  }

  #opened(): Bucket {
    if (!this.#bucket) throw new HubError(`The Space ${this.#parts.spaceId} has no bucket`);
    return this.#bucket;
  }
}

/** The trackio that a Space installs; without a version, the newest. Undefined: none. */
function versionIn(requirements: string): string | undefined {
  const [, pinned, rest] = /^trackio(?:\[[^\]]*\])?\s*(?:==\s*([\w.]+)|(.*))$/m.exec(requirements) ?? [];
  return pinned ?? (rest === undefined ? undefined : "999");
}
