/** Text that is drawn anew in place on a terminal, and one after the other into a pipe. */
import { cutAtLine } from "./metrics-words.ts";
import type { Output } from "./output.ts";

/** the alternate screen, which leaves what was on the terminal untouched; and no cursor */
const enter = "\x1b[?1049h\x1b[?25l";
const leave = "\x1b[?25h\x1b[?1049l";

export class Screen implements Disposable {
  readonly #output: Output;
  #shown: string | undefined;
  #text = "";

  constructor(output: Output) {
    this.#output = output;
    if (output.isTerminal) output.data(enter);
  }

  /** Does nothing when that is what is there. */
  show(text: string): void {
    this.#text = text;
    const { isTerminal } = this.#output;
    const shown = isTerminal ? cutAtLine(text, process.stdout.rows || Number.POSITIVE_INFINITY) : text;
    if (shown === this.#shown) return;
    if (isTerminal) this.#output.data(`\x1b[H${shown.replaceAll("\n", "\x1b[K\n")}\x1b[K\x1b[J`);
    else this.#output.data(`${this.#shown === undefined ? "" : "\n"}${text}\n`);
    this.#shown = shown;
  }

  /** What was shown last stays on the terminal, whole. */
  [Symbol.dispose](): void {
    if (this.#output.isTerminal) this.#output.data(`${leave}${this.#text === "" ? "" : `${this.#text}\n`}`);
  }
}
