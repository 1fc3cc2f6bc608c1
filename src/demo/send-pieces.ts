/** An answer piece by piece: in its own time, no faster than the client reads, and cut off where the script says. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { newId, type StreamEvent } from "./message-events.ts";
import type { Cut } from "./script.ts";

export interface Piece {
  bytes: Buffer;
  /** time since the piece before */
  delayMs: number;
}

/** Server-sent events as they are on the wire. */
export function* encode(events: Iterable<StreamEvent>): Generator<Piece> {
  for (const { data, delayMs } of events) {
    yield { bytes: Buffer.from(`event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`), delayMs };
  }
}

/** The events until `afterBlocks` blocks are whole and the next one, if any, has begun to say something. */
export function* cutBlocks(
  events: Iterable<StreamEvent>,
  { afterBlocks = Number.POSITIVE_INFINITY }: Cut,
): Generator<StreamEvent> {
  let left = afterBlocks;
  for (const event of events) {
    const { type } = event.data;
    if (left <= 0 && type === "message_delta") return;
    yield event;
    if (left <= 0 && type === "content_block_delta") return;
    if (type === "content_block_stop") left -= 1;
  }
}

/** The pieces until `afterBytes` bytes, the last one shortened. */
export function* cutBytes(pieces: Iterable<Piece>, { afterBytes = Number.POSITIVE_INFINITY }: Cut): Generator<Piece> {
  let left = afterBytes;
  for (const { bytes, delayMs } of pieces) {
    if (left <= 0) return;
    yield { bytes: bytes.subarray(0, left), delayMs };
    left -= bytes.length;
  }
}

/** Sends status 200 and the pieces, without an end. False when the client left before. */
export async function sendPieces(
  response: ServerResponse,
  contentType: string,
  pieces: Iterable<Piece>,
): Promise<boolean> {
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const { signal } = gone;
  response.writeHead(200, { "content-type": contentType, "cache-control": "no-cache", "request-id": newId("req") });
  try {
    for (const { bytes, delayMs } of pieces) {
      if (delayMs > 0) await delay(delayMs, undefined, { signal });
      if (!response.write(bytes)) await once(response, "drain", { signal });
    }
  } catch (thrown) {
    if (!signal.aborted) throw thrown;
  }
  return !response.closed;
}
