/** What a proxy adds to the time to the first byte while fifty requests are on their way and no core is full. */
import { join } from "node:path";
import { alternate, type Figures, figure, median } from "../measure.ts";
import { messageFrom, startClient, targetOf } from "./load/client.ts";
import type { LatencyOptions } from "./load/latency-main.ts";
import { messageBody } from "./message.ts";
import { startOurs } from "./ours.ts";
import { startDirect } from "./peers/direct.ts";
import { quantile } from "./quantile.ts";
import { type Side, subfolder } from "./side.ts";
import type { PacedUpstream } from "./upstream/paced.ts";

const program = join(import.meta.dirname, "load/latency-main.ts");
const rounds = 7;
const pacing = { connections: 50, requestsEach: 40, pauseMs: 50 };

export async function latency(upstream: PacedUpstream, folder: string): Promise<Figures> {
  await using ours = await startOurs(upstream.origin, subfolder(folder, "latency-ours"));
  const direct = await startDirect(upstream.origin);
  const { a, b } = await alternate(
    rounds,
    () => waysOf(ours, folder),
    () => waysOf(direct, folder),
  );
  const at = (ways: readonly number[][], share: number) => median(ways.map((values) => quantile(values, share)));
  const added = (share: number) =>
    median(a.map((values, index) => quantile(values, share) - quantile(b[index] ?? [], share)));
  return {
    "first byte, direct, p50": figure(at(b, 0.5), "ms"),
    "first byte, direct, p99": figure(at(b, 0.99), "ms"),
    "first byte, added by ours, p50": figure(added(0.5), "ms", 0.5),
    "first byte, added by ours, p99": figure(added(0.99), "ms", 3),
  };
}

async function waysOf(side: Side, folder: string): Promise<number[]> {
  const options: LatencyOptions = { ...targetOf(side, messageBody("bench-think")), ...pacing };
  await using client = startClient(program, options, folder);
  return await messageFrom<number[]>(client);
}
