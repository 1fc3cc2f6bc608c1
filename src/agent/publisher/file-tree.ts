/** Files that are written once: media, artifacts, fragments. Each is copied once; folders without news cost one look. */
import { type BigIntStats, lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { copyWhole } from "./durable-copy.ts";

/** a file that changed so recently may still be written, in milliseconds */
const settleMs = 1000;

interface KnownFolder {
  mtimeNs: bigint;
  folders: string[];
}

/** A folder with all below it, and its copy. */
export class FileTree {
  readonly #from: string;
  readonly #to: string;
  readonly #isWanted: (name: string) => boolean;
  /** by path below the tree */
  readonly #known = new Map<string, KnownFolder>();

  /** `isWanted` is asked for names of files. Links and other kinds are left out. */
  constructor(from: string, to: string, isWanted: (name: string) => boolean = () => true) {
    this.#from = from;
    this.#to = to;
    this.#isWanted = isWanted;
  }

  /** Copies what is new. `isLast`: also what may still be written. */
  async copyNew(isLast = false): Promise<void> {
    await this.#visit("", isLast);
  }

  async #visit(path: string, isLast: boolean): Promise<void> {
    const stat = statOf(join(this.#from, path));
    if (!stat?.isDirectory()) return;
    const known = this.#known.get(path);
    const folders = known?.mtimeNs === stat.mtimeNs ? known.folders : await this.#copyFiles(path, stat, isLast);
    for (const name of folders) await this.#visit(join(path, name), isLast);
  }

  /** The names of the folders in it. */
  async #copyFiles(path: string, { mtimeNs }: BigIntStats, isLast: boolean): Promise<string[]> {
    const entries = readdirSync(join(this.#from, path), { withFileTypes: true });
    const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    let isSettled = true;
    for (const { name } of entries.filter((entry) => entry.isFile() && this.#isWanted(entry.name))) {
      const from = join(this.#from, path, name);
      const to = join(this.#to, path, name);
      const stat = statOf(from);
      if (!stat?.isFile()) continue;
      if (!isLast && Date.now() - Number(stat.mtimeMs) < settleMs) {
        isSettled = false;
        continue;
      }
      if (statOf(to)?.size !== stat.size) await copyWhole(from, to);
    }
    if (isSettled) this.#known.set(path, { mtimeNs, folders });
    return folders;
  }
}

function statOf(path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}
