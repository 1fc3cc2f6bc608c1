/**
 * Takes credentials out of passing bytes, also where they lie across chunks. Every form is replaced by asterisks of the
 * same length, so that lengths stay true. Only bytes that may begin a credential are held back.
 */
const asterisk = 42;
const empty = Buffer.alloc(0);

export class Scrubber {
  readonly #needles: readonly Buffer[];
  readonly #longest: number;
  #held: Buffer = empty;

  constructor(needles: readonly Buffer[]) {
    this.#needles = needles;
    this.#longest = Math.max(0, ...needles.map((needle) => needle.length));
  }

  /** What may pass of `chunk` and of what was held back before. */
  push(chunk: Buffer): Buffer {
    let bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    bytes = withoutNeedles(bytes, this.#needles);
    const keep = this.#unfinished(bytes);
    this.#held = keep === 0 ? empty : bytes.subarray(bytes.length - keep);
    return keep === 0 ? bytes : bytes.subarray(0, bytes.length - keep);
  }

  /** What was held back; call when no more comes. */
  end(): Buffer {
    const rest = this.#held;
    this.#held = empty;
    return rest;
  }

  /** How many bytes at the end are the beginning of a needle. */
  #unfinished(bytes: Buffer): number {
    const tail = Math.max(0, bytes.length - this.#longest + 1);
    let longest = 0;
    for (const needle of this.#needles) {
      const first = needle[0] as number;
      const start = Math.max(tail, bytes.length - needle.length + 1);
      for (let at = bytes.indexOf(first, start); at !== -1; at = bytes.indexOf(first, at + 1)) {
        if (bytes.length - at <= longest) break;
        if (needle.compare(bytes, at, bytes.length, 0, bytes.length - at) === 0) longest = bytes.length - at;
      }
    }
    return longest;
  }
}

/** The same for a short text that is whole, such as a header's value. */
export function scrubText(text: string, needles: readonly Buffer[]): string {
  const bytes = Buffer.from(text, "latin1");
  const clean = withoutNeedles(bytes, needles);
  return clean === bytes ? text : clean.toString("latin1");
}

/** `bytes` itself when it holds none. */
function withoutNeedles(bytes: Buffer, needles: readonly Buffer[]): Buffer {
  let clean = bytes;
  for (const needle of needles) {
    for (let at = clean.indexOf(needle); at !== -1; at = clean.indexOf(needle, at + needle.length)) {
      // the chunk is also the meter's and the connection's
      if (clean === bytes) clean = Buffer.from(bytes);
      clean.fill(asterisk, at, at + needle.length);
    }
  }
  return clean;
}
