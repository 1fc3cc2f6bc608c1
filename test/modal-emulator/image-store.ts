/** Builds images layer by layer, each once for all processes of this machine, and keeps them beside node_modules. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { baseKey, baseSettings, familyOf, writeBaseLayer } from "./base-image.ts";
import { DockerfileError, type ImageSettings, parseDockerfile } from "./dockerfile.ts";
import { withFileLock } from "./file-lock.ts";
import { runInstructions } from "./image-build.ts";
import { isAlive } from "./is-alive.ts";
import { OutputLog } from "./output-log.ts";

export interface BuiltImage extends ImageSettings {
  /** top first */
  layers: string[];
}

export interface EmulatedImage {
  id: string;
  /** of this layer, FROM included */
  commands: readonly string[];
  log: OutputLog;
  /** settles when the build has; rejects with the words for the user */
  built: Promise<BuiltImage>;
  state: "building" | "built" | "failed";
}

interface Request {
  commands: readonly string[];
  baseImages: readonly { dockerTag: string; imageId: string }[];
  secretEnv: Readonly<Record<string, string>>;
  force: boolean;
}

export class ImageStore {
  readonly images = new Map<string, EmulatedImage>();
  readonly #cache = join(import.meta.dirname, "../../node_modules/.cache/modal-emulator");
  readonly #scratch: string;
  readonly #failure: () => string | undefined;
  #forced = 0;

  /** `failure`: when it gives words, builds that are not cached fail with them */
  constructor(scratch: string, failure: () => string | undefined) {
    this.#scratch = scratch;
    this.#failure = failure;
  }

  async getOrCreate(request: Request): Promise<EmulatedImage> {
    const key = await this.#keyOf(request);
    const id = `im-${BigInt(`0x${key.slice(0, 40)}`)
      .toString(36)
      .padStart(22, "0")
      .slice(-22)}`;
    const known = this.images.get(id);
    if (known && known.state !== "failed") return known;
    const log = new OutputLog();
    const built = this.#build(key, request, log);
    const image: EmulatedImage = { id, commands: request.commands, log, built, state: "building" };
    this.images.set(id, image);
    const settled = built.then(
      () => (image.state = "built"),
      () => (image.state = "failed"),
    );
    void settled.then(() => log.end());
    if (existsSync(join(this.#folderOf(key), "image.json"))) await settled;
    return image;
  }

  /** Resolves when no build runs any more. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.images.values()].map((image) => image.built));
  }

  async #keyOf(request: Request): Promise<string> {
    const hash = createHash("sha256").update(await baseKey());
    const secrets = Object.entries(request.secretEnv).sort();
    hash.update(JSON.stringify([request.commands, request.baseImages, secrets]));
    if (request.force) hash.update(`${process.pid} ${Date.now()} ${this.#forced++}`);
    return hash.digest("hex");
  }

  #folderOf(key: string): string {
    return join(this.#cache, key.slice(0, 16));
  }

  async #build(key: string, request: Request, log: OutputLog): Promise<BuiltImage> {
    const instructions = parseDockerfile(request.commands);
    const first = instructions[0];
    if (first?.kind !== "FROM") throw new DockerfileError("an image begins with FROM");
    const base = await this.#baseOf(first.tag, request);
    const rest = instructions.slice(1);
    if (rest.length === 0) return base;
    const folder = request.force ? join(this.#scratch, "images", key.slice(0, 16)) : this.#folderOf(key);
    const settings = await this.#once(folder, async (draft) => {
      const words = this.#failure();
      if (words !== undefined) throw new DockerfileError(words);
      return runInstructions({ draft, base, instructions: rest, secretEnv: request.secretEnv, log });
    });
    return { ...settings, layers: [folder, ...base.layers] };
  }

  async #baseOf(tag: string, request: Request): Promise<BuiltImage> {
    const named = request.baseImages.find((image) => image.dockerTag === tag);
    if (named) {
      const image = this.images.get(named.imageId);
      if (!image) throw new DockerfileError(`no image ${named.imageId}`);
      return image.built;
    }
    const family = familyOf(tag);
    if (!family) throw new DockerfileError(`the emulator's registry has debian, python and node only, not ${tag}`);
    const folder = join(this.#cache, `${family}-${(await baseKey()).slice(0, 16)}`);
    const settings = await this.#once(folder, async (draft) => {
      await writeBaseLayer(draft, family);
      return baseSettings(family);
    });
    return { ...settings, layers: [folder] };
  }

  /** Makes a folder whole or not at all, by one process at a time. */
  async #once(folder: string, make: (draft: string) => Promise<ImageSettings>): Promise<ImageSettings> {
    const read = async () => JSON.parse(await readFile(join(folder, "image.json"), "utf8")) as ImageSettings;
    if (existsSync(folder)) return read();
    await mkdir(dirname(folder), { recursive: true });
    return withFileLock(`${folder}.lock`, async () => {
      if (existsSync(folder)) return read();
      const draft = `${folder}.draft-${process.pid}`;
      await removeDrafts(folder);
      try {
        for (const part of ["root", "usr"]) await mkdir(join(draft, part), { recursive: true });
        const settings = await make(draft);
        await writeFile(join(draft, "image.json"), JSON.stringify(settings));
        await rename(draft, folder).catch((error) => {
          if (!existsSync(folder)) throw error;
        });
        return settings;
      } finally {
        await rm(draft, { recursive: true, force: true });
      }
    });
  }
}

/** What builds that were killed have left. */
async function removeDrafts(folder: string): Promise<void> {
  const prefix = `${basename(folder)}.draft-`;
  for (const name of await readdir(dirname(folder)))
    if (name.startsWith(prefix) && !isAlive(Number(name.slice(prefix.length))))
      await rm(join(dirname(folder), name), { recursive: true, force: true });
}
