/**
 * Many streams at once, fifty events a second each: how late an event comes, what a stream costs in memory, and whether
 * all of it arrives. When the machine cannot carry all streams even without a proxy, or ours cannot, fewer are tried,
 * and the number that was carried is a figure of its own.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Figures, figure, median } from "../measure.ts";
import { messageFrom, startClient, targetOf } from "./load/client.ts";
import type { FromStreams, StreamsOptions } from "./load/streams-main.ts";
import { messageBody } from "./message.ts";
import { startOurs } from "./ours.ts";
import { startDirect } from "./peers/direct.ts";
import { startNginxPeer } from "./peers/nginx.ts";
import { processorSeconds, residentBytes } from "./processes.ts";
import { type Side, subfolder } from "./side.ts";
import type { PacedUpstream } from "./upstream/paced.ts";

const program = join(import.meta.dirname, "load/streams-main.ts");
const goalCount = 1000;
const counts = [goalCount, 750, 500, 250, 100];
const rounds = 3;
const perStream = 50;
const timing = { settleMs: 1000, windowMs: 5000, patienceMs: 20_000 };
/** a side that carries its streams passes at least this share of the events while they are sent */
const leastShare = 0.9;
/** and is not later than this, in ms: beyond it, a queue grows */
const mostLate = 100;
/** how long the memory may take to come back */
const recoveryMs = 10_000;

interface Run {
  count: number;
  opened: number;
  p50: number;
  p99: number;
  eventsPerSecond: number;
  whole: number;
  lost: number;
  /** of the proxy in bytes; 0 without one; `recovered` is waited for with ours only */
  memory: { idle: number; steady: number; recovered: number };
  /** share of its core that the proxy took, in percent */
  busy: number;
}

type Pair = { ours: Run; direct: Run };

export async function streams(upstream: PacedUpstream, folder: string): Promise<Figures> {
  const figures = await peerFigures(upstream, folder);
  for (const count of counts) {
    const pairs: Pair[] = [];
    for (let round = 0; round < rounds; round += 1) {
      pairs.push(await pairOf(count, upstream, folder));
      // one round tells that it is too many; the others would tell the same
      if (!pairs.every(({ ours, direct }) => isCarried(ours) && isCarried(direct))) break;
    }
    const isEnough = pairs.length === rounds && pairs.every(({ ours, direct }) => isCarried(ours) && isCarried(direct));
    if (count === goalCount || isEnough) Object.assign(figures, pairFigures(count, pairs));
    if (isEnough) return { ...figures, "streams carried by ours": figure(count, "", goalCount, "floor") };
  }
  return { ...figures, "streams carried by ours": figure(0, "", goalCount, "floor") };
}

function isCarried({ count, opened, eventsPerSecond, p99 }: Run): boolean {
  return opened === count && eventsPerSecond >= leastShare * count * perStream && p99 <= mostLate;
}

/** nginx at the full number, once: what one core of this machine can be asked for. Empty when nginx is not to be had. */
async function peerFigures(upstream: PacedUpstream, folder: string): Promise<Figures> {
  const nginx = await startNginxPeer(upstream.origin, subfolder(folder, "streams-nginx")).catch(() => undefined);
  if (nginx === undefined) return {};
  await using _nginx = nginx;
  const { opened, eventsPerSecond, p50, p99, busy } = await runOn(nginx, goalCount, upstream, folder);
  const name = `${goalCount} streams`;
  return {
    [`${name}, opened, nginx`]: figure(opened, ""),
    [`${name}, events a second, nginx`]: figure(eventsPerSecond, "/s"),
    [`${name}, event late, nginx, p50`]: figure(p50, "ms"),
    [`${name}, event late, nginx, p99`]: figure(p99, "ms"),
    [`${name}, core in use, nginx`]: figure(busy, "%"),
  };
}

async function pairOf(count: number, upstream: PacedUpstream, folder: string): Promise<Pair> {
  const direct = await runOn(await startDirect(upstream.origin), count, upstream, folder);
  // a fresh process each time: memory that an earlier run left behind would be counted as idle
  await using ours = await startOurs(upstream.origin, subfolder(folder, `streams-${count}-${performance.now()}`));
  return { direct, ours: await runOn(ours, count, upstream, folder) };
}

async function runOn(side: Side, count: number, upstream: PacedUpstream, folder: string): Promise<Run> {
  const resident = () => (side.pid === null ? 0 : residentBytes(side.pid));
  const spent = () => (side.pid === null ? 0 : processorSeconds(side.pid));
  const idle = resident();
  const options: StreamsOptions = { ...targetOf(side, messageBody("bench-stream")), count, ...timing };
  await using client = startClient(program, options, folder);
  const { opened } = await messageOf("open", client);
  const measuring = messageOf("measured", client);
  const [startedAt, spentBefore] = [performance.now(), spent()];
  const samples: number[] = [];
  const sampling = setInterval(() => samples.push(resident()), 100);
  const { lateMs, eventsPerSecond } = await measuring.finally(() => clearInterval(sampling));
  const busy = (100 * (spent() - spentBefore)) / ((performance.now() - startedAt) / 1000);
  const ending = messageOf("ended", client);
  upstream.finish();
  const { whole, lost } = await ending;
  const recovered = await lowestOver(side.name === "ours" ? recoveryMs : 0, resident);
  const memory = { idle, steady: median(samples), recovered };
  return { count, opened, ...lateMs, eventsPerSecond, whole, lost, memory, busy };
}

async function messageOf<Type extends FromStreams["type"]>(
  type: Type,
  client: Parameters<typeof messageFrom>[0],
): Promise<Extract<FromStreams, { type: Type }>> {
  const message = await messageFrom<FromStreams>(client);
  if (message.type !== type) throw new Error(`the client said ${message.type} instead of ${type}`);
  return message as Extract<FromStreams, { type: Type }>;
}

async function lowestOver(ms: number, read: () => number): Promise<number> {
  let lowest = read();
  for (const end = performance.now() + ms; performance.now() < end; ) {
    await delay(200);
    lowest = Math.min(lowest, read());
  }
  return lowest;
}

function pairFigures(count: number, pairs: readonly Pair[]): Figures {
  const ours = (of: (run: Run) => number) => median(pairs.map((pair) => of(pair.ours)));
  const direct = (of: (run: Run) => number) => median(pairs.map((pair) => of(pair.direct)));
  const name = `${count} streams`;
  const mebibytes = (of: (run: Run) => number) => figure(ours(of) / 1024 ** 2, "MiB");
  return {
    [`${name}, opened, direct`]: figure(
      direct((run) => run.opened),
      "",
    ),
    [`${name}, opened, ours`]: figure(
      ours((run) => run.opened),
      "",
      count,
      "floor",
    ),
    [`${name}, events a second, direct`]: figure(
      direct((run) => run.eventsPerSecond),
      "/s",
    ),
    [`${name}, events a second, ours`]: figure(
      ours((run) => run.eventsPerSecond),
      "/s",
    ),
    [`${name}, event late, direct, p50`]: figure(
      direct((run) => run.p50),
      "ms",
    ),
    [`${name}, event late, direct, p99`]: figure(
      direct((run) => run.p99),
      "ms",
    ),
    [`${name}, event late, ours, p50`]: figure(
      ours((run) => run.p50),
      "ms",
    ),
    [`${name}, event late, ours, p99`]: figure(
      ours((run) => run.p99),
      "ms",
    ),
    [`${name}, event late, added p99`]: figure(median(pairs.map((pair) => pair.ours.p99 - pair.direct.p99)), "ms", 20),
    [`${name}, core in use, ours`]: figure(
      ours((run) => run.busy),
      "%",
    ),
    [`${name}, lost frames`]: figure(Math.max(...pairs.map((pair) => pair.ours.lost)), "", 0),
    [`${name}, streams not whole`]: figure(Math.max(...pairs.map((pair) => count - pair.ours.whole)), "", 0),
    [`${name}, memory a stream`]: figure(
      ours(({ memory, opened }) => (memory.steady - memory.idle) / Math.max(1, opened) / 1024),
      "KiB",
      64,
    ),
    [`${name}, memory idle`]: mebibytes((run) => run.memory.idle),
    [`${name}, memory steady`]: mebibytes((run) => run.memory.steady),
    [`${name}, memory recovered`]: mebibytes((run) => run.memory.recovered),
  };
}
