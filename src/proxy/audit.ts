/** One JSON line for each request: who, what, how it ended, what it cost in tokens. Never a header, a body or a key. */
import { closeSync, openSync, writeSync } from "node:fs";
import type { Reason } from "./refusal.ts";
import type { Tokens } from "./usage-meter.ts";

export interface AuditEntry extends Tokens {
  /** start of the request, ISO 8601 */
  time: string;
  /** null when no key named a sandbox */
  sandboxId: string | null;
  upstream: string;
  method: string;
  /** without the query, at most 200 characters */
  path: string;
  /** as the answer names it */
  model: string | null;
  status: number;
  /** null: passed on, and answered to its end */
  reason: Reason | "client_gone" | "upstream_gone" | "grant_ended" | null;
  /** bodies, in bytes */
  bytesIn: number;
  bytesOut: number;
  /** milliseconds */
  ms: number;
}

export class Audit {
  readonly #fd: number;
  #writable = true;
  /** a line that the disk did not take: tried again before the next request */
  #pending = "";

  constructor(path: string) {
    this.#fd = openSync(path, "a", 0o600);
  }

  /** False while a line could not be written; tries again. */
  isWritable(): boolean {
    if (!this.#writable) this.#write("");
    return this.#writable;
  }

  add(entry: AuditEntry): void {
    this.#write(`${JSON.stringify(entry)}\n`);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #write(line: string): void {
    const bytes = Buffer.from(this.#pending + line);
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(this.#fd, bytes, written);
      this.#writable = true;
    } catch {
      // a full disk: the entry is kept, and nothing is passed on until it is written
      this.#writable = false;
    }
    this.#pending = bytes.subarray(written).toString("utf8");
  }
}
