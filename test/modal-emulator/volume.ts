/**
 * Volumes with Modal's visibility: a mount is a copy of what was committed when it was made; what is written in it is
 * seen by others when it has been committed and they have reloaded. The last writer of a file wins.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { bring, difference, type Manifest, manifestOf, take } from "./tree.ts";

export class EmulatedVolume {
  readonly id: string;
  readonly name: string;
  /** 1 or 2: of Modal's two file systems */
  readonly version: number;
  readonly committedPath: string;
  /** path → number of the commit that wrote it */
  readonly commits = new Map<string, number>();
  #count = 0;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(id: string, name: string, version: number, committedPath: string) {
    this.id = id;
    this.name = name;
    this.version = version;
    this.committedPath = committedPath;
  }

  nextCommit(): number {
    return ++this.#count;
  }

  /** One commit or reload of a volume at a time. */
  async alone<Value>(work: () => Promise<Value>): Promise<Value> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => {});
    return turn;
  }
}

/** A volume in one sandbox. */
export class VolumeMount {
  readonly volume: EmulatedVolume;
  readonly path: string;
  readonly readOnly: boolean;
  /** what is bound into the sandbox */
  readonly hostPath: string;
  readonly #working: string;
  #seen = new Map<string, number>();
  #base: Manifest = new Map();

  private constructor(volume: EmulatedVolume, path: string, readOnly: boolean, working: string, subPath: string) {
    this.volume = volume;
    this.path = path;
    this.readOnly = readOnly;
    this.#working = working;
    this.hostPath = join(working, subPath);
  }

  static async create(
    volume: EmulatedVolume,
    options: { path: string; readOnly: boolean; subPath: string; working: string },
  ): Promise<VolumeMount> {
    const mount = new VolumeMount(volume, options.path, options.readOnly, options.working, join("/", options.subPath));
    await mkdir(mount.hostPath, { recursive: true });
    await volume.alone(() => mount.#refresh());
    return mount;
  }

  /** Makes what was written here the volume's state. */
  async commit(): Promise<void> {
    if (!this.readOnly) await this.volume.alone(() => this.#commit());
  }

  /** Shows what others have committed; the caller has seen to it that no file is open. */
  async reload(): Promise<void> {
    await this.volume.alone(async () => {
      if (!this.readOnly) await this.#commit();
      await this.#refresh();
    });
  }

  async #commit(): Promise<void> {
    const now = await manifestOf(this.#working);
    const { changed, gone } = difference(this.#base, now);
    if (changed.length + gone.length === 0) return;
    const { commits, committedPath } = this.volume;
    const number = this.volume.nextCommit();
    for (const path of gone) {
      await take(committedPath, path);
      commits.delete(path);
      this.#seen.delete(path);
    }
    for (const path of changed) {
      const entry = now.get(path);
      if (!entry) continue;
      if (await bring(this.#working, committedPath, path, entry)) {
        commits.set(path, number);
        this.#seen.set(path, number);
      } else {
        now.delete(path);
      }
    }
    this.#base = now;
  }

  async #refresh(): Promise<void> {
    const { commits, committedPath } = this.volume;
    const committed = await manifestOf(committedPath);
    for (const path of [...this.#seen.keys()].reverse()) if (!commits.has(path)) await take(this.#working, path);
    for (const [path, entry] of committed)
      if (commits.get(path) !== this.#seen.get(path) || !this.#base.has(path))
        await bring(committedPath, this.#working, path, entry, this.readOnly);
    this.#seen = new Map(commits);
    this.#base = await manifestOf(this.#working);
  }
}
