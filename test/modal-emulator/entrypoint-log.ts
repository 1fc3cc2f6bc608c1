/** The lines of a main process as the control plane keeps them: text, in order, with ids to go on after. */
import { EventEmitter, once } from "node:events";
import { StringDecoder } from "node:string_decoder";

export interface LogEntry {
  /** from 1 on */
  number: number;
  /** 1 stdout, 2 stderr */
  descriptor: number;
  data: string;
  atMs: number;
}

export class EntrypointLog {
  readonly entries: LogEntry[] = [];
  readonly #events = new EventEmitter().setMaxListeners(0);
  readonly #decoders = new Map<number, StringDecoder>();
  #ended = false;

  append(descriptor: number, data: Buffer): void {
    const decoder = this.#decoders.get(descriptor) ?? new StringDecoder("utf8");
    this.#decoders.set(descriptor, decoder);
    const text = decoder.write(data);
    if (!text) return;
    this.entries.push({ number: this.entries.length + 1, descriptor, data: text, atMs: Date.now() });
    this.#events.emit("change");
  }

  end(): void {
    this.#ended = true;
    this.#events.emit("change");
  }

  /** Those after `number`, of one descriptor or, with 0, of both; undefined says that there will be none any more. */
  async *after(number: number, descriptor: number, signal: AbortSignal): AsyncGenerator<LogEntry | undefined> {
    for (let index = number; !signal.aborted; ) {
      const entry = this.entries[index];
      if (entry) {
        index++;
        if (!descriptor || entry.descriptor === descriptor) yield entry;
      } else if (this.#ended) {
        yield undefined;
        return;
      } else {
        await once(this.#events, "change", { signal }).catch(() => {});
      }
    }
  }
}
