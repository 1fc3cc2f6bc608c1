/** Ctrl-C while a session ends: cut off there, it would leave sandboxes, which may cost money. */
import { exitCodes } from "../errors.ts";
import type { Output } from "./output.ts";

/** Create it before what is to be ended, so that it is disposed of last. */
export class Ending implements Disposable {
  readonly #output: Output;
  #interrupts = 0;

  constructor(output: Output) {
    this.#output = output;
  }

  /** The conversation is over; from here on the first Ctrl-C is answered with words, and the second one obeyed. */
  begin(): void {
    process.on("SIGINT", this.#onInterrupt);
  }

  [Symbol.dispose](): void {
    process.off("SIGINT", this.#onInterrupt);
  }

  readonly #onInterrupt = (): void => {
    this.#interrupts += 1;
    if (this.#interrupts > 1) process.exit(exitCodes.interrupted);
    this.#output.note("ending the sandboxes …; Ctrl-C again leaves them as they are, and modal-sb gc ends them later");
  };
}
