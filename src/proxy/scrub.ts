/**
 * Takes a credential out of passing bytes, also where it lies across chunks. Every form is replaced by asterisks of the
 * same length, so that lengths stay true. Only bytes that may begin a credential are held back.
 */
import { Transform, type TransformCallback } from "node:stream";

const asterisk = 42;

export class Scrubber extends Transform {
  readonly #needles: readonly Buffer[];
  readonly #onChunk: (chunk: Buffer) => void;
  #held = Buffer.alloc(0);

  /** `onChunk` sees each chunk as it came. */
  constructor(needles: readonly Buffer[], onChunk: (chunk: Buffer) => void = () => {}) {
    super();
    this.#needles = needles;
    this.#onChunk = onChunk;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#onChunk(chunk);
    const bytes = this.#held.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#held, chunk]);
    for (const needle of this.#needles) replaceAll(bytes, needle);
    const keep = longestBeginning(bytes, this.#needles);
    this.#held = bytes.subarray(bytes.length - keep);
    done(null, bytes.subarray(0, bytes.length - keep));
  }

  override _flush(done: TransformCallback): void {
    done(null, this.#held);
  }
}

/** The same for a short text that is whole, such as a header's value. */
export function scrubText(text: string, needles: readonly Buffer[]): string {
  const bytes = Buffer.from(text);
  for (const needle of needles) replaceAll(bytes, needle);
  return bytes.toString();
}

function replaceAll(bytes: Buffer, needle: Buffer): void {
  for (let at = bytes.indexOf(needle); at !== -1; at = bytes.indexOf(needle, at + needle.length)) {
    bytes.fill(asterisk, at, at + needle.length);
  }
}

/** How many bytes at the end are the beginning of a needle. */
function longestBeginning(bytes: Buffer, needles: readonly Buffer[]): number {
  let longest = 0;
  for (const needle of needles) {
    const most = Math.min(needle.length - 1, bytes.length);
    for (let length = most; length > longest; length -= 1) {
      if (bytes.compare(needle, 0, length, bytes.length - length) === 0) longest = length;
    }
  }
  return longest;
}
