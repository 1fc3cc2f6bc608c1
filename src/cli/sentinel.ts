/**
 * Text for a program that reads us line by line: a line END_TURN is ours alone. A line of the agent that begins with
 * it gets a space in front.
 */
export const sentinel = "END_TURN";

export class SentinelGuard {
  /** the beginning of a line, as long as it may still become the sentinel */
  #held = "";
  #atLineStart = true;

  /** What may be written of `text` now. */
  push(text: string): string {
    let safe = "";
    for (const part of text.split(/(?<=\n)/)) safe += this.#pushPart(part);
    return safe;
  }

  /** The rest, with a newline when the last line has none; after it comes the sentinel. */
  end(): string {
    const rest = this.#held;
    const unfinished = rest !== "" || !this.#atLineStart;
    this.#held = "";
    this.#atLineStart = true;
    const escaped = rest.startsWith(sentinel) ? ` ${rest}` : rest;
    return unfinished ? `${escaped}\n` : escaped;
  }

  #pushPart(part: string): string {
    if (!this.#atLineStart) {
      this.#atLineStart = part.endsWith("\n");
      return part;
    }
    const line = this.#held + part;
    if (sentinel.startsWith(line)) {
      this.#held = line;
      return "";
    }
    this.#held = "";
    this.#atLineStart = line.endsWith("\n");
    return line.startsWith(sentinel) ? ` ${line}` : line;
  }
}
