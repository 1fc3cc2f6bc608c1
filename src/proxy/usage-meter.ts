/**
 * Reads model and usage from an answer that passes by: server-sent events or one JSON object. It only looks, and gives
 * up on what it does not understand; the bytes are never touched.
 */
import { noUsage, type Usage } from "./cost.ts";

/** longest line, or whole JSON answer, that is read */
const maxLineBytes = 8 * 1024 * 1024;
/** no answer has more of anything */
const maxCount = 1e9;

/** characters of a delta's line that are not the model's own words */
const deltaFrameBytes = 86;
/** what a token of an answer is in bytes, when nobody says how many there were */
const bytesPerOutputToken = 4;

const deltaStart = Buffer.from('data: {"type":"content_block_delta"');
const newline = 10;
const empty = Buffer.alloc(0);

export class UsageMeter {
  /** the largest figures that the answer has named so far */
  readonly usage: Usage = { ...noUsage };
  /** as the answer names it */
  model: string | null = null;
  /** the answer said how much it used in all */
  isFinal = false;
  readonly #isEvents: boolean;
  /** of the line, or the JSON, that is not complete */
  #parts: Buffer[] = [];
  #bytes = 0;
  #skipping = false;
  #deltas = 0;
  #deltaBytes = 0;

  constructor(contentType: string | undefined) {
    this.#isEvents = /^text\/event-stream\b/i.test(contentType ?? "");
  }

  push(chunk: Buffer): void {
    let start = 0;
    if (this.#isEvents) {
      for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
        this.#keep(chunk.subarray(start, end));
        this.#takeLine(this.#whole());
        this.#skipping = false;
        start = end + 1;
      }
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
  }

  /** Call when the answer is complete. */
  end(): void {
    if (this.#isEvents) this.#takeLine(this.#whole());
    else this.#takeJson(this.#whole());
  }

  /** What is known to have been used: the figures named, and at least as much output as has passed. */
  get known(): Usage {
    const passed = Math.max(this.#deltas, Math.ceil(this.#deltaBytes / bytesPerOutputToken));
    return this.isFinal ? this.usage : { ...this.usage, outputTokens: Math.max(this.usage.outputTokens, passed) };
  }

  #keep(part: Buffer): void {
    this.#bytes += part.length;
    this.#skipping ||= this.#bytes > maxLineBytes;
    if (this.#skipping) this.#parts = [];
    else this.#parts.push(part);
  }

  /** What was kept, in one piece; nothing is kept after. */
  #whole(): Buffer {
    const [only = empty] = this.#parts;
    const whole = this.#parts.length <= 1 ? only : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    return whole;
  }

  #takeLine(line: Buffer): void {
    if (line.length >= deltaStart.length && deltaStart.compare(line, 0, deltaStart.length) === 0) {
      this.#deltas += 1;
      this.#deltaBytes += Math.max(0, line.length - deltaFrameBytes);
    } else if (line.includes('"usage"')) {
      this.#takeJson(line.subarray(line.indexOf("{")));
    }
  }

  #takeJson(bytes: Buffer): void {
    if (bytes.length === 0) return;
    try {
      const answer = JSON.parse(bytes.toString("utf8")) as Answer | null;
      const model = answer?.message?.model ?? answer?.model;
      if (typeof model === "string") this.model = model.slice(0, 200);
      const usage = answer?.message?.usage ?? answer?.usage;
      if (typeof usage === "object" && usage !== null) {
        this.#takeUsage(usage);
        if (answer?.type !== "message_start") this.isFinal = true;
      }
    } catch {
      // not JSON, or not the shape of an answer: nothing to count
    }
  }

  /** The figures of message_delta are totals; none ever becomes smaller. */
  #takeUsage(usage: Record<string, unknown>): void {
    const rounds = Array.isArray(usage["iterations"]) ? (usage["iterations"] as Record<string, unknown>[]) : [];
    // a request that was compacted on the way names each round, and only the last one's figures as its own
    const largest = (field: string) =>
      Math.max(
        countOf(usage[field]),
        rounds.reduce((sum, round) => sum + countOf(round?.[field]), 0),
      );
    const mine = this.usage;
    mine.inputTokens = Math.max(mine.inputTokens, largest("input_tokens"));
    mine.outputTokens = Math.max(mine.outputTokens, largest("output_tokens"));
    mine.cacheReadTokens = Math.max(mine.cacheReadTokens, largest("cache_read_input_tokens"));
    const { ephemeral_5m_input_tokens: short, ephemeral_1h_input_tokens: long } = recordOf(usage["cache_creation"]);
    const written = Math.max(largest("cache_creation_input_tokens"), countOf(short) + countOf(long));
    mine.cacheWriteTokens = Math.max(mine.cacheWriteTokens, written);
    mine.cacheWriteHourTokens = Math.max(mine.cacheWriteHourTokens, countOf(long));
    mine.webSearches = Math.max(mine.webSearches, countOf(recordOf(usage["server_tool_use"])["web_search_requests"]));
  }
}

interface Answer {
  type?: unknown;
  model?: unknown;
  usage?: Record<string, unknown>;
  message?: { model?: unknown; usage?: Record<string, unknown> };
}

function countOf(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? Math.min(value, maxCount) : 0;
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
