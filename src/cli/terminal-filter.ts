/** Bytes of somebody hostile, as they come, on the way to a terminal: printable text, tabs and newlines pass. */
import { StringDecoder } from "node:string_decoder";
import { sanitizeText } from "../sanitize.ts";

/** the beginning of an escape sequence, or of `\r\n`, at the end of a piece: what follows decides */
const unfinished =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  /(?:\x1b|(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*\x1b?|\x1b[ -/]+|\r+)$/;
/**
 * Longer ones are cut: what comes behind shows as text then, and does no harm. Short, because the search from the end takes the
 * square of this, for every piece of somebody who wants it to.
 */
const maxHeld = 2 * 1024;

/**
 * Works like sanitizeText, with sequences that lie in several pieces. A lone carriage return becomes a newline: what
 * stands on a line cannot be written over.
 */
export class TerminalFilter {
  readonly #decoder = new StringDecoder("utf8");
  #held = "";

  /** What of the stream so far may be shown now. */
  push(chunk: Buffer): string {
    const text = this.#held + this.#decoder.write(chunk);
    const from = unfinished.exec(text.slice(-maxHeld));
    const cut = from ? Math.max(0, text.length - maxHeld) + from.index : text.length;
    this.#held = text.slice(cut);
    return clean(text.slice(0, cut));
  }

  /** The rest. */
  end(): string {
    return clean(this.#held + this.#decoder.end());
  }
}

function clean(text: string): string {
  return sanitizeText(text.replace(/\r+\n?/g, "\n"));
}
