/** Ten new rows in a project whose other rows are there already: what they cost us and the peers, by how many those are. */
import { join } from "node:path";
import { type Figures, figure, median } from "../measure.ts";
import { appendRows } from "./databases.ts";
import type { RunningSyncer } from "./ours.ts";
import {
  type Cost,
  costOf,
  expectRows,
  type OurProject,
  ourProject,
  projectOf,
  type Setting,
  sizes,
} from "./setting.ts";

const newRows = 10;
/** the peers send everything in each */
const rounds = 3;
/** and we do not */
const ourRounds = 11;
const intervalMs = 500;
const mostBytes = 10;
const mostProcessorMs = 50;
const mostGrowth = 1.1;

const peerNames = {
  incremental: "trackio sync_incremental",
  bucket: "trackio.sync to a bucket",
  loop: "resending all",
} as const;
type Peer = keyof typeof peerNames;

interface Costs {
  first: Cost;
  ours: Cost[];
  peers: Record<Peer, Cost[]>;
}

/** `largest`: a project of ours that has the most rows, all of which were sent. */
export async function increments(setting: Setting, largest: OurProject): Promise<Figures> {
  const costs: Costs[] = [];
  for (const rows of sizes) costs.push(await costsAt(setting, rows, largest));
  return { ...comparison(costs), ...growth(costs) };
}

async function costsAt(setting: Setting, rows: number, largest: OurProject): Promise<Costs> {
  const isLargest = rows === sizes.at(-1);
  const project = isLargest ? largest : ourProject(setting, projectOf("ours", rows), rows);
  if (!isLargest) {
    await using syncer = await project.start(intervalMs);
    await project.publishRows(syncer, rows);
  }
  // one that was started since: nothing is warm but what its own start has warmed
  await using syncer = await project.start(intervalMs);
  await syncer.until(({ syncedAt }) => syncedAt !== null);
  const first = await project.publishRows(syncer, newRows);
  const costs: Costs = { first, ours: [], peers: { incremental: [], bucket: [], loop: [] } };
  for (let round = 0; round < rounds; round += 1) {
    costs.ours.push(...(await ourCosts(project, syncer, Math.ceil(ourRounds / rounds))));
    await addPeerCosts(setting, rows, costs.peers);
  }
  for (const side of ["ours", "sync", "loop"] as const) {
    const added = newRows * (side === "ours" ? 1 + costs.ours.length : rounds);
    await expectRows(
      setting.receiver,
      isLargest && side === "ours" ? largest.name : projectOf(side, rows),
      rows + added,
    );
  }
  return costs;
}

async function ourCosts(project: OurProject, syncer: RunningSyncer, count: number): Promise<Cost[]> {
  const costs: Cost[] = [];
  for (let done = 0; done < count; done += 1) costs.push(await project.publishRows(syncer, newRows));
  return costs;
}

async function addPeerCosts(setting: Setting, rows: number, costs: Record<Peer, Cost[]>): Promise<void> {
  const { receiver, peers, peersFolder } = setting;
  const [sync, loop] = [projectOf("sync", rows), projectOf("loop", rows)];
  for (const project of [sync, loop]) appendRows(join(peersFolder, `${project}.db`), newRows);
  costs.incremental.push(await costOf(receiver, () => peers.syncIncremental(sync)));
  costs.loop.push(await costOf(receiver, () => peers.resendAll(loop)));
  let uploaded = 0;
  const bucket = await costOf(receiver, async () => {
    const cost = await peers.uploadToBucket(sync);
    uploaded = cost.uploadedBytes;
    return cost;
  });
  costs.bucket.push({ ...bucket, bytes: uploaded });
}

function comparison(costs: readonly Costs[]): Figures {
  const at = costs.at(-1);
  if (!at) return {};
  const name = `${newRows} rows after ${sizes.at(-1)}`;
  const kilobytes = (of: readonly Cost[]) => median(of.map(({ bytes }) => bytes / 1000));
  const processor = (of: readonly Cost[]) => median(of.map(({ processorMs }) => processorMs));
  const figures: Figures = {
    [`${name}, sent, ours`]: figure(kilobytes(at.ours), "KB", mostBytes),
    [`${name}, processor, ours`]: figure(processor(at.ours), "ms", mostProcessorMs),
    [`${name}, processor, ours, first after a start`]: figure(at.first.processorMs, "ms"),
    [`${name}, requests, ours`]: figure(median(at.ours.map(({ requests }) => requests)), ""),
  };
  for (const [peer, label] of Object.entries(peerNames)) {
    const of = at.peers[peer as Peer];
    Object.assign(figures, {
      [`${name}, sent, ${label}`]: figure(kilobytes(of), "KB"),
      [`${name}, sent, ${label} ÷ ours`]: figure(kilobytes(of) / kilobytes(at.ours), "×"),
    });
    // what the Hub's client would do is not in it
    if (peer === "bucket") continue;
    Object.assign(figures, {
      [`${name}, processor, ${label}`]: figure(processor(of), "ms"),
      [`${name}, processor, ${label} ÷ ours`]: figure(processor(of) / processor(at.ours), "×"),
    });
  }
  return figures;
}

function growth(costs: readonly Costs[]): Figures {
  const figures: Figures = {};
  const sides: [label: string, of: (costs: Costs) => readonly Cost[]][] = [
    ["ours", ({ ours }) => ours],
    ...Object.entries(peerNames).map(([peer, label]): [string, (costs: Costs) => readonly Cost[]] => [
      label,
      ({ peers }) => peers[peer as Peer],
    ]),
  ];
  for (const [label, of] of sides) {
    const bytes = costs.map((each) => median(of(each).map((cost) => cost.bytes / 1000)));
    for (const [index, rows] of sizes.entries())
      figures[`growth, sent after ${rows} rows, ${label}`] = figure(bytes[index] ?? Number.NaN, "KB");
    const ratio = Math.max(...bytes) / Math.min(...bytes);
    figures[`growth, most ÷ least, ${label}`] = figure(ratio, "×", label === "ours" ? mostGrowth : null);
  }
  return figures;
}
