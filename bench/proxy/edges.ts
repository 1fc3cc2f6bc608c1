/** Single requests: a large answer, a refusal, an interrupt. */
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { type Figures, figure, median } from "../measure.ts";
import { microseconds } from "./clock.ts";
import { targetOf } from "./load/client.ts";
import { messageBody } from "./message.ts";
import { startOurs, wrongKey } from "./ours.ts";
import { startDirect } from "./peers/direct.ts";
import { residentBytes } from "./processes.ts";
import { type Side, subfolder } from "./side.ts";
import type { PacedUpstream } from "./upstream/paced.ts";

const refusalCount = 200;
const interruptCount = 50;
const largeCount = 3;
const largeBytes = 100 * 1024 * 1024;
const sampleMs = 5;

export async function edges(upstream: PacedUpstream, folder: string): Promise<Figures> {
  const direct = await startDirect(upstream.origin);
  const growths: number[] = [];
  for (let round = 0; round < largeCount; round += 1) {
    // each in a fresh process: what the first answer took is not free for the second
    await using ours = await startOurs(upstream.origin, subfolder(folder, `large-${round}`));
    growths.push(await growthOf(ours));
  }
  await using ours = await startOurs(upstream.origin, subfolder(folder, "edges-ours"));
  const before = await upstream.connections();
  const refusals: number[] = [];
  for (let count = 0; count < refusalCount; count += 1) refusals.push(await refusalMs(ours));
  const opened = (await upstream.connections()) - before;
  return {
    "answer of 100 MB, memory grown": figure(median(growths) / 1024 ** 2, "MiB", 16),
    "refusal, median": figure(median(refusals), "ms", 5),
    "refusal, upstream connections": figure(opened, "", 0),
    "interrupt, direct, median": figure(median(await interrupts(direct, upstream)), "ms"),
    "interrupt, ours, median": figure(median(await interrupts(ours, upstream)), "ms", 50),
  };
}

/** Bytes by which the resident memory was higher than before, at the most, while a large answer passed. */
async function growthOf(side: Side): Promise<number> {
  const pid = side.pid ?? 0;
  // a small request first, so that what loads with the first request of all is not counted
  await answerTo(side, messageBody("bench-think"));
  const before = residentBytes(pid);
  let highest = before;
  const sampling = setInterval(() => {
    highest = Math.max(highest, residentBytes(pid));
  }, sampleMs);
  const bytes = await answerTo(side, messageBody("bench-large"));
  clearInterval(sampling);
  if (bytes < largeBytes) throw new Error(`${side.name} passed ${bytes} of ${largeBytes} bytes`);
  return highest - before;
}

/** The length of a whole answer on a connection that is closed behind it. */
async function answerTo(side: Side, body: string): Promise<number> {
  const socket = connect(side.port, "127.0.0.1");
  socket.write(targetOf({ ...side, headers: { ...side.headers, connection: "close" } }, body).request);
  let bytes = 0;
  socket.on("data", (part: Buffer) => {
    bytes += part.length;
  });
  await once(socket, "close");
  return bytes;
}

/** Connecting included, as a refusal ends the connection. */
async function refusalMs(side: Side): Promise<number> {
  const { port, request } = targetOf({ ...side, headers: wrongKey() }, messageBody());
  const started = performance.now();
  const socket = connect(port, "127.0.0.1");
  socket.write(request);
  const [answer] = (await once(socket, "data")) as [Buffer];
  const elapsed = performance.now() - started;
  socket.destroy();
  if (!answer.toString("latin1").startsWith("HTTP/1.1 406"))
    throw new Error(`not refused: ${answer.toString("latin1", 0, 200)}`);
  return elapsed;
}

/** From closing a stream in the middle to the upstream's seeing it. */
async function interrupts(side: Side, upstream: PacedUpstream): Promise<number[]> {
  const values: number[] = [];
  for (let count = 0; count < interruptCount; count += 1) {
    const socket = connect(side.port, "127.0.0.1");
    socket.write(targetOf(side, messageBody("bench-stream")).request);
    for (let events = 0; events < 3; events += 1) await once(socket, "data");
    // anywhere between two events
    await delay(Math.random() * 20);
    const left = upstream.left();
    const started = microseconds();
    socket.destroy();
    values.push(((await left) - started) / 1000);
  }
  return values;
}
