/** One JSON line for each request: who, what, how it ended, what it cost. Never a header, a body or a key. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";
import type { Ending } from "./forward.ts";

export interface AuditEntry {
  /** start of the request, ISO 8601 */
  time: string;
  /** null when no key named a sandbox */
  sandboxId: string | null;
  /** null when no upstream has the path */
  upstream: string | null;
  method: string;
  /** without the query, at most 200 characters */
  path: string;
  /** as the answer names it, or else the request */
  model: string | null;
  status: number;
  /** null: passed on, and answered to its end */
  reason: Ending;
  /** the upstream's own name for the request */
  requestId: string | null;
  inputTokens: number;
  outputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  /** US dollars */
  cost: number;
  /** bodies, in bytes */
  bytesIn: number;
  bytesOut: number;
  /** milliseconds */
  ms: number;
  /** refusals before this one that were not written, because there were too many */
  suppressed?: number;
}

/** refusals that are written in a second; a flood of them must not fill the disk */
const refusalsPerSecond = 50;
/** and of those that came without a key, in a row; then one a second: a stranger must not push out what the session did */
const strangersInARow = 50;
/** then the file becomes `<name>.1`, in place of an earlier one */
const maxFileBytes = 64 * 1024 * 1024;

export class Audit {
  readonly #path: string;
  readonly #onEntry: (entry: AuditEntry) => void;
  #fd: number;
  #bytes: number;
  #writable = true;
  /** not written yet; what the disk did not take is tried again before the next request */
  #lines = "";
  #scheduled = false;
  #refusals = 0;
  #refusalsSince = 0;
  #suppressed = 0;
  #strangers = strangersInARow;
  #strangersSince = performance.now();

  /** `onEntry` gets every entry that is written. */
  constructor(path: string, onEntry: (entry: AuditEntry) => void = () => {}) {
    this.#path = path;
    this.#onEntry = onEntry;
    this.#fd = openSync(path, "a", 0o600);
    this.#bytes = fstatSync(this.#fd).size;
  }

  /** False while a line could not be written; tries again. */
  isWritable(): boolean {
    if (!this.#writable) this.#flush();
    return this.#writable;
  }

  add(entry: AuditEntry): void {
    this.#onEntry(entry);
    this.#lines += `${JSON.stringify(entry)}\n`;
    if (this.#scheduled) return;
    this.#scheduled = true;
    // lines of the same moment are written together
    setImmediate(() => this.#flush());
  }

  /** The same, for a request that cost nothing: when there are too many, they are counted and not written. */
  addRefusal(entry: AuditEntry, isStranger = false): void {
    const now = performance.now();
    if (isStranger && !this.#admitStranger(now)) {
      this.#suppressed += 1;
      return;
    }
    if (now - this.#refusalsSince > 1000) {
      this.#refusalsSince = now;
      this.#refusals = 0;
    }
    this.#refusals += 1;
    if (this.#refusals > refusalsPerSecond) {
      this.#suppressed += 1;
      return;
    }
    this.add(this.#suppressed === 0 ? entry : { ...entry, suppressed: this.#suppressed });
    this.#suppressed = 0;
  }

  #admitStranger(now: number): boolean {
    this.#strangers = Math.min(strangersInARow, this.#strangers + (now - this.#strangersSince) / 1000);
    this.#strangersSince = now;
    if (this.#strangers < 1) return false;
    this.#strangers -= 1;
    return true;
  }

  close(): void {
    this.#flush();
    closeSync(this.#fd);
  }

  #flush(): void {
    this.#scheduled = false;
    const bytes = Buffer.from(this.#lines);
    let written = 0;
    try {
      if (this.#bytes > maxFileBytes) this.#begin();
      while (written < bytes.length) written += writeSync(this.#fd, bytes, written);
      this.#writable = true;
    } catch {
      // a full disk: the lines are kept, and nothing is passed on until they are written
      this.#writable = false;
    }
    this.#bytes += written;
    this.#lines = bytes.subarray(written).toString("utf8");
  }

  #begin(): void {
    renameSync(this.#path, `${this.#path}.1`);
    closeSync(this.#fd);
    this.#fd = openSync(this.#path, "a", 0o600);
    this.#bytes = 0;
  }
}
