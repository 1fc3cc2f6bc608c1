/**
 * A folder in which nothing is reached through a link: each step of a path is opened by itself, relative to the folder
 * before it, and refused when it is no folder. What somebody makes a link meanwhile leads nowhere.
 * Node has no openat(2); `/proc/self/fd/N/name` is the same.
 */
import { closeSync, constants, lstatSync, mkdirSync, openSync, type PathLike, type Stats } from "node:fs";

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
const folderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
/** folders that are kept open */
const maxKept = 16;

/** Names are in latin1, a character for each byte. */
export class FolderTree implements Disposable {
  #root: number;
  /** by path, the latest last */
  readonly #kept = new Map<string, number>();

  /** `path` itself may lead over links: somebody named it on purpose. */
  constructor(path: string) {
    this.#root = openSync(path, O_RDONLY | O_DIRECTORY);
  }

  /** A path that is good for one synchronous call: the folder it goes through may be closed by the next use. */
  at(names: readonly string[]): PathLike {
    const folder = this.folder(names.slice(0, -1));
    return entryPath(folder, names.at(-1) ?? ".");
  }

  /** The folder's descriptor, good until the next use. */
  folder(names: readonly string[]): number {
    if (names.length === 0) return this.#root;
    const key = names.join("/");
    const kept = this.#kept.get(key);
    if (kept !== undefined) {
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      return kept;
    }
    const opened = openSync(entryPath(this.folder(names.slice(0, -1)), names.at(-1) as string), folderFlags);
    this.#kept.set(key, opened);
    for (const [oldest, descriptor] of this.#kept) {
      if (this.#kept.size <= maxKept) break;
      this.#kept.delete(oldest);
      closeSync(descriptor);
    }
    return opened;
  }

  open(names: readonly string[], flags: number, mode?: number): number {
    return openSync(this.at(names), flags | O_NOFOLLOW, mode);
  }

  /** What is there, without following a link; undefined when nothing is. */
  look(names: readonly string[]): Stats | undefined {
    return lstatSync(this.at(names), { throwIfNoEntry: false });
  }

  /** Makes the folder unless it is there; true when it was made. A link in its place is no folder. */
  makeFolder(names: readonly string[], mode: number): boolean {
    try {
      mkdirSync(this.at(names), { mode });
      return true;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      this.folder(names);
      return false;
    }
  }

  [Symbol.dispose](): void {
    for (const descriptor of [...this.#kept.values(), this.#root]) closeSync(descriptor);
    this.#kept.clear();
    // the number may soon be another file's
    this.#root = -1;
  }
}

export function entryPath(folder: number, name: string): Buffer {
  return Buffer.from(`/proc/self/fd/${folder}/${name}`, "latin1");
}
