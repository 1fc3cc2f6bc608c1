/**
 * Takes credentials out of passing bytes, also where they lie across chunks. Every form is replaced by asterisks of the
 * same length, so that lengths stay true. Only bytes that may begin a credential are held back.
 */
const asterisk = 42;
const empty = Buffer.alloc(0);

export class Scrubber {
  readonly #needles: readonly Buffer[];
  readonly #longest: number;
  /** by byte: whether a needle begins with it */
  readonly #begins = new Uint8Array(256);
  #held: Buffer = empty;

  constructor(needles: readonly Buffer[]) {
    this.#needles = needles;
    this.#longest = Math.max(0, ...needles.map((needle) => needle.length));
    for (const [first] of needles) if (first !== undefined) this.#begins[first] = 1;
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
    // the first place in the tail where one could begin leaves the most to hold back
    for (let at = Math.max(0, bytes.length - this.#longest + 1); at < bytes.length; at += 1) {
      if (this.#begins[bytes[at] as number] === 0) continue;
      const rest = bytes.length - at;
      if (
        this.#needles.some((needle) => rest < needle.length && needle.compare(bytes, at, bytes.length, 0, rest) === 0)
      ) {
        return rest;
      }
    }
    return 0;
  }
}

/** The same for a short text that is whole, such as a header's value. */
export function scrubText(text: string, needles: readonly Buffer[]): string {
  if (needles.every((needle) => needle.length > text.length)) return text;
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
