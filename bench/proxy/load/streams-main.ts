/**
 * Client: opens so many streams of events, says so, listens for a while, says what it saw, and when all streams have
 * ended, whether they were whole. It stays at the sockets' bytes, so that it keeps up where a proxy might not.
 */
import { connect } from "node:net";
import { microseconds } from "../clock.ts";
import { quantile } from "../quantile.ts";
import { FrameReader } from "../upstream/frames.ts";
import type { ClientTarget } from "./client.ts";

export interface StreamsOptions extends ClientTarget {
  count: number;
  /** between the opening of the last and the window */
  settleMs: number;
  /** in which lateness is measured */
  windowMs: number;
  /** the longest wait for all to open, and for all to end */
  patienceMs: number;
}

export type FromStreams =
  | { type: "open"; opened: number }
  | { type: "measured"; lateMs: { p50: number; p99: number }; eventsPerSecond: number; spentPercent: number }
  | { type: "ended"; whole: number; lost: number };

/** streams that may be connecting at once */
const opening = 50;

const options = JSON.parse(process.argv[2] ?? "{}") as StreamsOptions;
let started = 0;
let opened = 0;
let ended = 0;
let whole = 0;
let lost = 0;
let isMeasuring = false;
const memory = Buffer.alloc(64 * 1024);
const late: number[] = [];
const allOpen = Promise.withResolvers<void>();
const allEnded = Promise.withResolvers<void>();

const tell = (message: FromStreams) => new Promise<void>((resolve) => process.send?.(message, () => resolve()));

function openNext(): void {
  if (started === options.count) return;
  started += 1;
  let next = 0;
  let head = "";
  let isOpen = false;
  const reader = new FrameReader((number, time) => {
    if (number !== next) lost += Math.abs(number - next);
    next = number + 1;
    if (isMeasuring) late.push(microseconds() - time);
  });
  // first word of the stream or its failure, whichever comes: either way the next may connect
  const settled = (success: boolean) => {
    if (isOpen) return;
    isOpen = true;
    if (success) opened += 1;
    if (started === options.count && --pending === 0) allOpen.resolve();
    else if (started < options.count) openNext();
  };
  const onBytes = (length: number) => {
    const text = memory.toString("latin1", 0, length);
    if (!isOpen) {
      head += text;
      if (head.startsWith("HTTP/1.1 200") && head.includes("message_start")) settled(true);
    }
    reader.push(text);
    // a proxy may keep the connection: the stream's end is the body's
    if (reader.isEnded) socket.destroy();
    return true;
  };
  const socket = connect({
    port: options.port,
    host: "127.0.0.1",
    // all sockets read into the same memory: a buffer for each read would be most of the work
    onread: { buffer: memory, callback: onBytes },
  });
  socket.on("error", () => socket.destroy());
  socket.once("close", () => {
    settled(false);
    if (reader.isEnded && reader.count === next) whole += 1;
    if (reader.count !== null) lost += reader.count - next;
    ended += 1;
    if (ended === options.count) allEnded.resolve();
  });
  socket.write(options.request, "latin1");
}

const patience = () => new Promise<void>((resolve) => setTimeout(resolve, options.patienceMs));
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

let pending = Math.min(opening, options.count);
for (let count = Math.min(opening, options.count); count > 0; count -= 1) openNext();
await Promise.race([allOpen.promise, patience()]);
await tell({ type: "open", opened });
await pause(options.settleMs);
isMeasuring = true;
const [windowStart, spentBefore] = [performance.now(), process.cpuUsage()];
await pause(options.windowMs);
isMeasuring = false;
const windowMs = performance.now() - windowStart;
const { user, system } = process.cpuUsage(spentBefore);
await tell({
  type: "measured",
  lateMs: { p50: quantile(late, 0.5) / 1000, p99: quantile(late, 0.99) / 1000 },
  eventsPerSecond: (late.length * 1000) / windowMs,
  spentPercent: (user + system) / 10 / windowMs,
});
await Promise.race([allEnded.promise, patience()]);
await tell({ type: "ended", whole, lost });
process.exit(0);
