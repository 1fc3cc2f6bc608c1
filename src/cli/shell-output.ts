/** One output of a process in the sandbox, on its way to one of ours. */
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { TerminalFilter } from "./terminal-filter.ts";

/** A terminal says so by isTTY. */
export type Target = Writable & { isTTY?: boolean; columns?: number; rows?: number };

/** a process in the background may hold the output open after the one that was asked for ended; so long without a word */
const silenceMs = 3000;
/** "4194304" and its newline */
const maxNumberBytes = 8;

export class ShellOutput {
  readonly #source: Readable;
  readonly #target: Target;
  readonly #filter: TerminalFilter | undefined;
  /** gets the number on the first line, which is not passed on */
  readonly #onNumber: ((number: number) => void) | undefined;
  #number: Buffer | undefined;
  #silence: NodeJS.Timeout | undefined;
  #hasEnded = false;

  constructor(source: Readable, target: Target, onNumber?: (number: number) => void) {
    this.#source = source;
    this.#target = target;
    this.#filter = target.isTTY ? new TerminalFilter() : undefined;
    this.#onNumber = onNumber;
    this.#number = onNumber && Buffer.alloc(0);
  }

  /** Until the source has ended; no faster than the target takes it. `onClosed`: nobody reads the target any more. */
  async copy(onClosed: () => void): Promise<void> {
    const closed = () => {
      this.#source.destroy();
      onClosed();
    };
    // such as `head`, when it has seen enough
    this.#target.once("error", closed);
    try {
      for await (const chunk of this.#source) {
        clearTimeout(this.#silence);
        await this.#write(this.#pass(chunk as Buffer));
        this.#watchSilence();
      }
      await this.#write(this.#filter?.end() ?? "");
    } catch (error) {
      // given up, because the process or the target has ended
      if (!this.#source.destroyed) throw error;
    } finally {
      this.#target.off("error", closed);
      clearTimeout(this.#silence);
    }
  }

  /** The process has ended: what it wrote comes yet, what others write does not. */
  sourceEnded(): void {
    this.#hasEnded = true;
    this.#watchSilence();
  }

  #watchSilence(): void {
    if (!this.#hasEnded || this.#source.destroyed) return;
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#source.destroy(), silenceMs);
  }

  #pass(chunk: Buffer): Buffer | string {
    let rest = chunk;
    if (this.#number) {
      const line = Buffer.concat([this.#number, chunk]);
      const end = line.indexOf(10);
      if (end === -1 && line.length <= maxNumberBytes) {
        this.#number = line;
        return "";
      }
      const number = Number(line.subarray(0, Math.max(0, end)).toString("latin1"));
      if (Number.isInteger(number) && number > 1) this.#onNumber?.(number);
      this.#number = undefined;
      rest = line.subarray(end + 1);
    }
    return this.#filter ? this.#filter.push(rest) : rest;
  }

  async #write(piece: Buffer | string): Promise<void> {
    if (piece.length === 0 || this.#target.write(piece)) return;
    await once(this.#target, "drain");
  }
}
