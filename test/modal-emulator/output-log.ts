/** What a process has written to one descriptor, kept for any number of readers. */
import { EventEmitter, once } from "node:events";

export interface Piece {
  offset: number;
  data: Buffer;
}

export class OutputLog {
  readonly #pieces: Piece[] = [];
  readonly #events = new EventEmitter().setMaxListeners(0);
  #size = 0;
  #readUntil = 0;
  #ended = false;

  append(data: Buffer): void {
    this.#pieces.push({ offset: this.#size, data });
    this.#size += data.length;
    this.#events.emit("change");
  }

  end(): void {
    this.#ended = true;
    this.#events.emit("change");
  }

  get size(): number {
    return this.#size;
  }

  /** Bytes that no reader has asked for the rest of. */
  get unread(): number {
    return this.#size - this.#readUntil;
  }

  /** The next time that a reader goes on. */
  async readOn(): Promise<void> {
    await once(this.#events, "read");
  }

  /** From the byte at `offset` on, until the end or the signal. The last piece read may be a part of one written. */
  async *read(offset: number, signal: AbortSignal): AsyncGenerator<Piece> {
    let index = this.#pieces.findIndex((piece) => piece.offset + piece.data.length > offset);
    if (index === -1) index = this.#pieces.length;
    // whoever asks from here on has what is before it, also when an earlier reader of it was cut off
    this.#readUntil = Math.max(this.#readUntil, offset);
    this.#events.emit("read");
    while (!signal.aborted) {
      const piece = this.#pieces[index];
      if (piece) {
        index++;
        const skip = Math.max(0, offset - piece.offset);
        yield { offset: piece.offset + skip, data: piece.data.subarray(skip) };
        this.#readUntil = Math.max(this.#readUntil, piece.offset + piece.data.length);
        this.#events.emit("read");
      } else if (this.#ended) {
        return;
      } else {
        await once(this.#events, "change", { signal }).catch(() => {});
      }
    }
  }
}
