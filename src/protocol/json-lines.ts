import { StringDecoder } from "node:string_decoder";

/** A line of a stream: its text, or the size of one that was over the cap and dropped, with what was kept of its beginning. */
export type Line = { text: string } | { droppedBytes: number; head: string };

/**
 * Splits bytes into lines, holding at most `maxBytes` of an unfinished one.
 * Invalid UTF-8 becomes U+FFFD. A longer line is dropped to its end and reported once, there, with its first `headBytes`
 * bytes. An empty line, a sign of life of the other side, is none.
 */
export class LineSplitter {
  readonly #maxBytes: number;
  readonly #headBytes: number;
  #parts: Buffer[] = [];
  #bytes = 0;
  #dropping = false;

  constructor(maxBytes: number, headBytes = 0) {
    this.#maxBytes = maxBytes;
    this.#headBytes = headBytes;
  }

  /** The lines that `chunk` completes, in order. */
  push(chunk: Buffer): Line[] {
    const lines: Line[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      this.#add(chunk.subarray(start, end));
      if (this.#bytes > 0) lines.push(this.#finish());
      start = end + 1;
    }
    this.#add(chunk.subarray(start));
    return lines;
  }

  /** The last line, when the stream ended without a newline. */
  end(): Line[] {
    return this.#bytes === 0 ? [] : [this.#finish()];
  }

  #add(part: Buffer): void {
    this.#bytes += part.length;
    if (this.#dropping) return;
    if (part.length > 0) this.#parts.push(part);
    if (this.#bytes <= this.#maxBytes) return;
    this.#dropping = true;
    // a copy, so that the memory of the rest is free
    this.#parts = [Buffer.concat(this.#parts, this.#headBytes)];
  }

  #finish(): Line {
    const text = new StringDecoder("utf8").end(Buffer.concat(this.#parts));
    const line = this.#dropping ? { droppedBytes: this.#bytes, head: text } : { text };
    this.#parts = [];
    this.#bytes = 0;
    this.#dropping = false;
    return line;
  }
}
