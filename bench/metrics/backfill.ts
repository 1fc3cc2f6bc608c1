/** A project of many rows that the server has never seen, until all are there and counted on both sides. */
import { join } from "node:path";
import { type Figures, figure, median } from "../measure.ts";
import { processorSeconds } from "../proxy/processes.ts";
import { databaseOfRows } from "./databases.ts";
import { type Cost, costOf, expectRows, type OurProject, ourProject, projectOf, type Setting } from "./setting.ts";

const rows = 100_000;
const rounds = 2;
/** so that the wait for a poll is not in the figure */
const intervalMs = 20;

interface Backfill extends Cost {
  serverMs: number;
}

/** The figures, and a project that the server has now. */
export async function backfill(setting: Setting): Promise<{ figures: Figures; project: OurProject }> {
  const ours: Backfill[] = [];
  const theirs: Backfill[] = [];
  let project: OurProject | undefined;
  for (let round = 1; round <= rounds; round += 1) {
    project = ourProject(setting, projectOf("ours", rows + round), rows);
    const theirProject = projectOf("sync", rows + round);
    ours.push(await ofOurs(setting, project));
    theirs.push(await ofTrackio(setting, theirProject));
    for (const { name } of [project, { name: theirProject }]) await expectRows(setting.receiver, name, rows);
  }
  if (!project) throw new Error("there was no round");
  const perSecond = (costs: readonly Backfill[]) => median(costs.map(({ elapsedMs }) => (1000 * rows) / elapsedMs));
  const share = (costs: readonly Backfill[], of: (cost: Backfill) => number) =>
    figure(100 * median(costs.map((cost) => of(cost) / cost.elapsedMs)), "%");
  const figures = {
    "backfill, rows a second, ours": figure(perSecond(ours), "/s"),
    "backfill, rows a second, trackio sync_incremental": figure(perSecond(theirs), "/s"),
    "backfill, rows a second, ours ÷ trackio sync_incremental": figure(perSecond(ours) / perSecond(theirs), "×"),
    "backfill, server has a request, ours": share(ours, ({ answeringMs }) => answeringMs),
    "backfill, server has a request, trackio sync_incremental": share(theirs, ({ answeringMs }) => answeringMs),
    "backfill, server's processor, ours": share(ours, ({ serverMs }) => serverMs),
    "backfill, server's processor, trackio sync_incremental": share(theirs, ({ serverMs }) => serverMs),
    "backfill, processor, ours": share(ours, ({ processorMs }) => processorMs),
    "backfill, processor, trackio sync_incremental": share(theirs, ({ processorMs }) => processorMs),
    "backfill, sent for a row, ours": figure(median(ours.map(({ bytes }) => bytes / rows)), "B"),
  };
  return { figures, project };
}

async function ofOurs(setting: Setting, project: OurProject): Promise<Backfill> {
  await using syncer = await project.start(intervalMs);
  return await withServer(setting, () => project.publishRows(syncer, rows));
}

async function ofTrackio(setting: Setting, project: string): Promise<Backfill> {
  const { empty, peersFolder, peers, receiver } = setting;
  databaseOfRows(empty, join(peersFolder, `${project}.db`), rows);
  return await withServer(setting, () => costOf(receiver, () => peers.syncIncremental(project)));
}

async function withServer({ receiver }: Setting, run: () => Promise<Cost>): Promise<Backfill> {
  const before = processorSeconds(receiver.pid);
  const cost = await run();
  return { ...cost, serverMs: 1000 * (processorSeconds(receiver.pid) - before) };
}
