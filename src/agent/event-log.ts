/** The session's events, numbered, on the data volume: written before they are sent, so that a client can come back. */
import {
  closeSync,
  createReadStream,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { LineSplitter } from "../protocol/json-lines.ts";
import { maxAgentLineBytes } from "../protocol/limits.ts";
import type { AgentEvent, UnnumberedEvent } from "../protocol/messages.ts";

const flushDelayMs = 1000;

export class EventLog {
  readonly #path: string;
  readonly #fd: number;
  #lastSeq = 0;
  #size: number;
  #flushing: NodeJS.Timeout | undefined;
  /** true while the disk takes no more; events still reach the clients */
  #broken = false;

  /** Opens the log, made when missing. A last line that a power cut tore is cut off. */
  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true });
    this.#path = path;
    this.#fd = openSync(path, "a+", 0o600);
    this.#size = fstatSync(this.#fd).size;
    this.#readEnd();
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Numbers and writes an event. `writable` is false when the disk refused it; the event then exists for now only. */
  append(event: UnnumberedEvent): { event: AgentEvent; line: string; writable: boolean } {
    this.#lastSeq += 1;
    const numbered = { seq: this.#lastSeq, ...event } as AgentEvent;
    const line = `${JSON.stringify(numbered)}\n`;
    try {
      const bytes = Buffer.from(line);
      const written = writeSync(this.#fd, bytes);
      if (written < bytes.length) throw new Error("the disk is full");
      this.#size += written;
      this.#broken = false;
    } catch {
      // the reason is the same for every caller: no space. The torn line is removed, so that the next one is whole
      truncateQuietly(this.#fd, this.#size);
      this.#broken = true;
    }
    return { event: numbered, line, writable: !this.#broken };
  }

  /** Asks the disk, soon, to keep what was written: at once it would be in the way of a turn that follows. */
  flush(): void {
    this.#flushing ??= setTimeout(() => {
      this.#flushing = undefined;
      fdatasync(this.#fd, () => {});
    }, flushDelayMs);
    this.#flushing.unref();
  }

  /** The lines of events after number `after`, up to those written when this was called. */
  async *replay(after: number): AsyncGenerator<string> {
    if (after >= this.#lastSeq || this.#size === 0) return;
    const lines = new LineSplitter(maxAgentLineBytes);
    for await (const chunk of createReadStream(this.#path, { end: this.#size - 1 })) {
      for (const line of lines.push(chunk as Buffer)) {
        if ("text" in line && seqOf(line.text) > after) yield `${line.text}\n`;
      }
    }
  }

  /** With everything on disk. */
  close(): void {
    clearTimeout(this.#flushing);
    fdatasyncSync(this.#fd);
    closeSync(this.#fd);
  }

  #readEnd(): void {
    const length = Math.min(this.#size, 2 * maxAgentLineBytes);
    const tail = Buffer.alloc(length);
    readSync(this.#fd, tail, 0, length, this.#size - length);
    const end = tail.lastIndexOf(10) + 1;
    if (end < length) {
      this.#size -= length - end;
      ftruncateSync(this.#fd, this.#size);
    }
    const lines = tail.subarray(0, end).toString("utf8").trimEnd().split("\n");
    this.#lastSeq = Math.max(0, ...lines.map(seqOf));
  }
}

/** An event's number; 0 for a line that is none. */
function seqOf(line: string): number {
  return Number(/^\{"seq":(\d{1,15}),/.exec(line)?.[1] ?? 0);
}

function truncateQuietly(fd: number, size: number): void {
  try {
    ftruncateSync(fd, size);
  } catch {
    // a full disk may refuse this, too; replay passes over a torn line
  }
}
