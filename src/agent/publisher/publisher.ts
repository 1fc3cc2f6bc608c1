/**
 * Publishes a trackio folder: whole, consistent copies of what is written there, where somebody else may read them at any
 * time. Nothing is deleted there: what is gone here was perhaps not sent yet.
 */
import { lstatSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { backup, DatabaseSync } from "node:sqlite";
import { copyWhole, putWhole, removeDrafts } from "./durable-copy.ts";
import { FileTree } from "./file-tree.ts";

/** a database rests between two copies ten times as long as the last one took, so that writers keep the machine */
const restFactor = 10;
const shortestRestMs = 1000;
/** how long a writer may keep a database locked, in milliseconds */
const lockTimeoutMs = 5000;
/** more pages than a database has: one step of the backup is one read transaction, which no writer can disturb */
const allPages = 2 ** 30;

interface Published {
  fingerprint: string;
  /** milliseconds since 1970 before which it is not copied again */
  restsUntil: number;
}

export interface PublisherFolders {
  /** where trackio writes */
  from: string;
  /** where the copies go */
  to: string;
}

export class Publisher {
  readonly #folders: PublisherFolders;
  readonly #published = new Map<string, Published>();
  /** files that rows name, so they are there before the rows */
  readonly #named: FileTree[];
  readonly #fragments: FileTree;
  /** how many databases have been copied, ever */
  publications = 0;

  constructor(folders: PublisherFolders) {
    this.#folders = folders;
    const { from, to } = folders;
    this.#named = [
      new FileTree(join(from, "media"), join(to, "media")),
      // trackio writes a blob under a name with "partial" in it
      new FileTree(join(from, "artifacts"), join(to, "artifacts"), (name) => !name.includes(".partial")),
    ];
    this.#fragments = new FileTree(join(from, "inbox"), join(to, "inbox"), (name) => name.endsWith(".jsonl"));
  }

  /** Brings what was published before into a new trackio folder; what is there already stays. Returns how many databases. */
  async restore(): Promise<number> {
    const { from, to } = this.#folders;
    mkdirSync(from, { recursive: true });
    await Promise.all([removeDrafts(from), removeDrafts(to)]);
    const missing = databasesIn(to).filter((name) => !statOf(join(from, name)));
    for (const name of missing) await copyWhole(join(to, name), join(from, name));
    for (const tree of ["media", "artifacts", "inbox"])
      await new FileTree(join(to, tree), join(from, tree)).copyNew(true);
    for (const name of missing)
      this.#published.set(name, { fingerprint: fingerprintOf(join(from, name)), restsUntil: 0 });
    return missing.length;
  }

  /** Publishes what has changed. `isLast`: at once, also what was published a moment ago. Returns what went wrong, in words. */
  async publish(isLast = false): Promise<string[]> {
    const problems: string[] = [];
    const attempt = async (name: string, work: () => Promise<unknown>) => {
      await work().catch((error: Error) => problems.push(`${name} cannot be published: ${error.message}`));
    };
    const changed = databasesIn(this.#folders.from).filter((name) => this.#isToCopy(name, isLast));
    for (const name of changed) {
      await attempt(name, () => this.#publishDatabase(name, isLast));
    }
    if (changed.length === 0 && isLast) await attempt("media", () => this.#copyNamed(isLast));
    await attempt("inbox", () => this.#fragments.copyNew(isLast));
    return problems;
  }

  #isToCopy(name: string, isLast: boolean): boolean {
    const published = this.#published.get(name);
    if (!published) return true;
    if (!isLast && Date.now() < published.restsUntil) return false;
    return published.fingerprint !== fingerprintOf(join(this.#folders.from, name));
  }

  async #publishDatabase(name: string, isLast: boolean): Promise<void> {
    const { from, to } = this.#folders;
    const started = Date.now();
    // taken before: what is written meanwhile makes another copy
    const fingerprint = fingerprintOf(join(from, name));
    await putWhole(join(to, name), async (draft) => {
      const source = new DatabaseSync(join(from, name), { readOnly: true, timeout: lockTimeoutMs });
      try {
        await backup(source, draft, { rate: allPages });
      } finally {
        source.close();
      }
      await this.#copyNamed(isLast);
    });
    this.publications += 1;
    const restMs = Math.max(shortestRestMs, restFactor * (Date.now() - started));
    this.#published.set(name, { fingerprint, restsUntil: Date.now() + restMs });
  }

  async #copyNamed(isLast: boolean): Promise<void> {
    for (const tree of this.#named) await tree.copyNew(isLast);
  }
}

/** Regular files only: a link could lead anywhere. */
function databasesIn(folder: string): string[] {
  if (!statOf(folder)?.isDirectory()) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".db"))
    .map(({ name }) => name);
}

/** Changes when rows are committed: to the file, or to the log beside it while a connection stays open. */
function fingerprintOf(path: string): string {
  return [path, `${path}-wal`]
    .map((each) => statOf(each))
    .map((stat) => (stat && stat.size > 0n ? `${stat.ino} ${stat.size} ${stat.mtimeNs}` : ""))
    .join(" ");
}

function statOf(path: string) {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}
