/**
 * Looks for many words in streams of bytes at once, by their last two bytes first (Wu and Manber's skip table): most of a
 * stream is never looked at.
 */
import { credentialForms, minCredentialLength } from "../credential-forms.ts";
import type { Secret } from "../secret.ts";

interface Needle {
  label: string;
  form: Buffer;
}

export class CredentialSearch {
  readonly #byEnd = new Map<number, Needle[]>();
  /** how far the next two bytes may be looked for, by two bytes */
  readonly #skips: Uint16Array;
  readonly #shortest: number;
  readonly #longest: number;

  constructor(credentials: ReadonlyMap<string, Secret>) {
    const needles = [...credentials].flatMap(([label, secret]) => {
      const value = secret.reveal();
      return value.length < minCredentialLength
        ? []
        : credentialForms(value).map((form) => ({ label, form: Buffer.from(form) }));
    });
    this.#shortest = Math.min(...needles.map(({ form }) => form.length));
    this.#longest = Math.max(0, ...needles.map(({ form }) => form.length));
    this.#skips = new Uint16Array(65_536).fill(needles.length > 0 ? this.#shortest - 1 : 0);
    for (const needle of needles) this.#add(needle);
  }

  /** A search in one stream. */
  begin(): StreamSearch {
    let tail = Buffer.alloc(0);
    return {
      push: (bytes) => {
        if (this.#longest === 0) return undefined;
        const keep = this.#longest - 1;
        // what begins in earlier pieces ends in the first bytes of this one
        const found = this.#find(Buffer.concat([tail, bytes.subarray(0, keep)])) ?? this.#find(bytes);
        tail = Buffer.concat([bytes.length < keep ? tail : Buffer.alloc(0), bytes.subarray(-keep)]).subarray(-keep);
        return found;
      },
    };
  }

  #add(needle: Needle): void {
    const { form } = needle;
    // only the first `shortest` bytes count for the skips, so that no needle is jumped over
    for (let at = 1; at < this.#shortest; at += 1) {
      const pair = ((form[at - 1] ?? 0) << 8) | (form[at] ?? 0);
      const skip = this.#shortest - 1 - at;
      if (skip < (this.#skips[pair] ?? 0)) this.#skips[pair] = skip;
      if (skip === 0) this.#byEnd.set(pair, [...(this.#byEnd.get(pair) ?? []), needle]);
    }
  }

  /** The label of a credential that stands in `bytes`. */
  #find(bytes: Buffer): string | undefined {
    const skips = this.#skips;
    for (let at = this.#shortest - 1; at < bytes.length; ) {
      const pair = ((bytes[at - 1] as number) << 8) | (bytes[at] as number);
      const skip = skips[pair] as number;
      if (skip > 0) {
        at += skip;
        continue;
      }
      const start = at - this.#shortest + 1;
      for (const { label, form } of this.#byEnd.get(pair) ?? []) {
        if (bytes.compare(form, 0, form.length, start, Math.min(start + form.length, bytes.length)) === 0) return label;
      }
      at += 1;
    }
    return undefined;
  }
}

export interface StreamSearch {
  /** Takes the next piece; the label of a credential that ends in it. */
  push(bytes: Buffer): string | undefined;
}
