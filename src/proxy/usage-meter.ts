/**
 * Reads model and token counts from an answer that passes by: server-sent events or one JSON object. It only looks, and
 * gives up on what it does not understand; the stream is never touched.
 */
const maxLineBytes = 1024 * 1024;

export interface Tokens {
  inputTokens: number;
  outputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
}

const fields = {
  inputTokens: "input_tokens",
  outputTokens: "output_tokens",
  cacheReadTokens: "cache_read_input_tokens",
  cacheWriteTokens: "cache_creation_input_tokens",
} as const;

export class UsageMeter {
  readonly tokens: Tokens = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 };
  model: string | null = null;
  readonly #isEvents: boolean;
  #parts: Buffer[] = [];
  #bytes = 0;
  #skipping = false;

  constructor(contentType: string | undefined) {
    this.#isEvents = /^text\/event-stream\b/i.test(contentType ?? "");
  }

  push(chunk: Buffer): void {
    if (!this.#isEvents) {
      this.#keep(chunk);
      return;
    }
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      this.#keep(chunk.subarray(start, end));
      this.#takeLine();
      start = end + 1;
    }
    this.#keep(chunk.subarray(start));
  }

  /** Call when the answer is complete. */
  end(): void {
    this.#takeLine();
  }

  #keep(part: Buffer): void {
    this.#bytes += part.length;
    if (this.#bytes > maxLineBytes) {
      this.#skipping = true;
      this.#parts = [];
    }
    // the chunk's memory may be used again by whoever gets it next
    if (!this.#skipping && part.length > 0) this.#parts.push(Buffer.from(part));
  }

  #takeLine(): void {
    const line = Buffer.concat(this.#parts).toString("utf8");
    this.#parts = [];
    this.#bytes = 0;
    this.#skipping = false;
    const json = this.#isEvents ? /^data:\s*(\{.*"usage".*\})\s*$/.exec(line)?.[1] : line;
    if (json === undefined || json === "") return;
    try {
      this.#takeMessage(JSON.parse(json) as Answer);
    } catch {
      // not JSON, or not the shape of an answer: nothing to count
    }
  }

  #takeMessage(message: Answer): void {
    const model = message.message?.model ?? message.model;
    if (typeof model === "string") this.model = model.slice(0, 100);
    const usage = message.message?.usage ?? message.usage ?? {};
    for (const [name, field] of Object.entries(fields)) {
      const value = usage[field];
      // the figures of message_delta are totals and replace those of message_start
      if (typeof value === "number" && Number.isFinite(value)) this.tokens[name as keyof Tokens] = value;
    }
  }
}

interface Answer {
  model?: unknown;
  usage?: Record<string, unknown>;
  message?: { model?: unknown; usage?: Record<string, unknown> };
}
