/** What became of a transfer. */
import type { Outcome } from "./inside/messages.ts";
import { leftOut } from "./inside/walk.ts";
import { reason, shownPath } from "./words.ts";

/** the sandbox may make as many as it likes */
const maxListed = 100;

export interface Listed {
  /** how many there are; the list holds the first 100 */
  count: number;
  /** in words, safe to show: "path: why" */
  first: string[];
}

export interface TransferReport {
  /** files that were put in their place */
  files: number;
  /** files that were there already, the same */
  same: number;
  folders: number;
  /** that were sent, without what was there of an earlier attempt */
  bytes: number;
  /** files that were there of an earlier attempt in part */
  resumed: number;
  /** neither file nor folder, or gone before its turn */
  skipped: Listed;
  /** in whose place something else is, which was left as it is */
  existing: Listed;
  failed: Listed;
  /** in place, and written to while they were read */
  changed: Listed;
}

export interface Progress {
  bytes: number;
  files: number;
  /** undefined until it is known */
  total: { bytes: number; files: number } | undefined;
  /** the file that is being sent, safe to show */
  path: string;
}

export class Tally {
  readonly report: TransferReport = {
    ...{ files: 0, same: 0, folders: 0, bytes: 0, resumed: 0 },
    skipped: { count: 0, first: [] },
    existing: { count: 0, first: [] },
    failed: { count: 0, first: [] },
    changed: { count: 0, first: [] },
  };
  readonly #onProgress: ((progress: Progress) => void) | undefined;
  #progress: Progress = { bytes: 0, files: 0, total: undefined, path: "" };
  #path = "";

  constructor(onProgress: ((progress: Progress) => void) | undefined) {
    this.#onProgress = onProgress;
  }

  total(files: number, bytes: number): void {
    this.#progress.total = { files, bytes };
  }

  /** `sent`: as opposed to what was there already. */
  bytes(path: string, bytes: number, sent: boolean): void {
    if (sent) this.report.bytes += bytes;
    else this.report.resumed += 1;
    this.#progress.bytes += bytes;
    if (path !== this.#path) {
      this.#path = path;
      this.#progress.path = shownPath(path);
    }
    this.#onProgress?.({ ...this.#progress });
  }

  skipped(path: string, code: string): void {
    add(leftOut.includes(code) ? this.report.skipped : this.report.failed, path, code);
  }

  settled(entry: { kind: "file" | "folder"; path: string; size: number }, outcome: Outcome, code: string): void {
    const { report } = this;
    if (outcome === "failed") this.skipped(entry.path, code);
    else if (outcome === "exists") add(report.existing, entry.path, "");
    else if (entry.kind === "folder") report.folders += 1;
    else {
      if (outcome === "there") {
        report.same += 1;
        this.#progress.bytes += entry.size;
      } else report.files += 1;
      if (code === "changed") add(report.changed, entry.path, "");
      this.#progress.files += 1;
      this.#onProgress?.({ ...this.#progress });
    }
  }
}

function add(listed: Listed, path: string, code: string): void {
  listed.count += 1;
  if (listed.first.length < maxListed)
    listed.first.push(code ? `${shownPath(path)}: ${reason(code)}` : shownPath(path));
}
