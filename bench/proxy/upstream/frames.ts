/**
 * Events of a Messages stream that carry their number and the time they were sent at, and how to find both again in
 * bytes that come in any pieces. A mark is "@<number, 7 digits>,<microseconds, 15 digits>@".
 */
const numberDigits = 7;
const timeDigits = 15;
const markLength = numberDigits + timeDigits + 3;
/** bytes between a mark and the next event, and of the end */
const shortest = 64;
const longest = 1024;

/** As a chunk of an HTTP/1.1 body. */
export function frame(number: number, time: number): string {
  const mark = `@${String(number).padStart(numberDigits, "0")},${String(time).padStart(timeDigits, "0")}@`;
  return chunk(
    `event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"${mark}"}}\n\n`,
  );
}

/** The last chunks: how many frames there were, and the body's end. */
export function lastFrames(count: number): string {
  const usage = `event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":${count}}}\n\n`;
  return `${chunk(usage)}${chunk('event: message_stop\ndata: {"type":"message_stop"}\n\n')}0\r\n\r\n`;
}

export const firstFrame = chunk(
  'event: message_start\ndata: {"type":"message_start","message":{"model":"bench-stream","usage":{"input_tokens":480}}}\n\n',
);

/** Reads one stream. */
export class FrameReader {
  readonly #onFrame: (number: number, time: number) => void;
  #rest = "";
  /** what the stream itself said at its end; null before */
  count: number | null = null;
  /** the whole body is there */
  isEnded = false;

  constructor(onFrame: (number: number, time: number) => void) {
    this.#onFrame = onFrame;
  }

  push(bytes: string): void {
    const text = this.#rest + bytes;
    let done = 0;
    for (let at = text.indexOf("@"); at !== -1 && at + markLength <= text.length; at = text.indexOf("@", done)) {
      const comma = at + 1 + numberDigits;
      this.#onFrame(Number(text.slice(at + 1, comma)), Number(text.slice(comma + 1, comma + 1 + timeDigits)));
      done = at + markLength;
    }
    this.#rest = text.slice(done);
    // what follows a mark in its own event is short: only more than that can be the end
    if (this.#rest.length > shortest) this.#look();
  }

  #look(): void {
    const told = /"output_tokens":(\d+)\}/.exec(this.#rest)?.[1];
    if (told !== undefined) this.count = Number(told);
    this.isEnded = this.count !== null && this.#rest.includes("message_stop") && this.#rest.endsWith("\r\n0\r\n\r\n");
    if (!this.isEnded) this.#rest = this.#rest.slice(-longest);
  }
}

function chunk(text: string): string {
  return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
}
