/**
 * How the two sides of a transfer speak over a pipe: lines of JSON, one message each. The line `{"t":"data","n":…}` is
 * followed by so many raw bytes, which belong to the file that was begun last.
 */
import type { Writable } from "node:stream";
import { type Message, readMessage } from "./messages.ts";
import { TransferFault } from "./transfer-fault.ts";

/** a path of 4096 bytes, each of them escaped by JSON */
const maxLineBytes = 32 * 1024;
const maxDataBytes = 1024 * 1024;
const newline = 10;

/** A message, or a piece of the bytes that a data line has announced. */
export type Frame = { message: Message } | { bytes: Buffer };

/** Cuts what arrives into frames. Throws a TransferFault "protocol" for what is none: the sender may be hostile. */
export class FrameReader {
  #line: Buffer[] = [];
  #lineBytes = 0;
  #dataLeft = 0;

  *push(chunk: Buffer): Generator<Frame> {
    let at = 0;
    while (at < chunk.length) {
      if (this.#dataLeft > 0) {
        const bytes = chunk.subarray(at, at + this.#dataLeft);
        this.#dataLeft -= bytes.length;
        at += bytes.length;
        yield { bytes };
        continue;
      }
      const end = chunk.indexOf(newline, at);
      const piece = chunk.subarray(at, end === -1 ? chunk.length : end);
      this.#lineBytes += piece.length;
      if (this.#lineBytes > maxLineBytes) throw new TransferFault("protocol", "a line without end");
      this.#line.push(piece);
      at += piece.length + 1;
      if (end === -1) return;
      const line = this.#line.length === 1 ? piece : Buffer.concat(this.#line);
      this.#line = [];
      this.#lineBytes = 0;
      const message = readMessage(line.toString("utf8"));
      if (message.t !== "data") yield { message };
      else if (message.n <= maxDataBytes) this.#dataLeft = message.n;
      else throw new TransferFault("protocol", `${message.n} bytes at once`);
    }
  }
}

/** The outgoing half. Messages of one turn of the event loop leave in one write. */
export class FrameWriter {
  readonly #stream: Writable;
  #waiting = "";
  #isScheduled = false;
  #failure: Error | undefined;

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on("error", (error) => {
      this.#failure ??= error;
    });
  }

  post(message: Message): void {
    this.#waiting += `${JSON.stringify(message)}\n`;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#flush());
  }

  /** Resolves when the bytes have been handed on, so that their buffer may be used again. Rejects when the pipe is closed. */
  data(bytes: Buffer): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    this.#waiting += `{"t":"data","n":${bytes.length}}\n`;
    this.#stream.cork();
    this.#flush();
    const written = new Promise<void>((resolve, reject) => {
      this.#stream.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
    this.#stream.uncork();
    return written;
  }

  /** Resolves when all that was posted has been handed on. */
  drained(): Promise<void> {
    this.#flush();
    return new Promise((resolve, reject) => {
      this.#stream.write("", (error) => (error ? reject(error) : resolve()));
    });
  }

  #flush(): void {
    this.#isScheduled = false;
    if (this.#waiting === "") return;
    const text = this.#waiting;
    this.#waiting = "";
    if (!this.#failure) this.#stream.write(text);
  }
}
