/** What all measurements share: a receiving server, the peers, and our syncer's places. */
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { appendRows, databaseOfRows, emptyDatabase, putCopy } from "./databases.ts";
import type { Traffic } from "./front.ts";
import { type RunningSyncer, startSyncer } from "./ours.ts";
import { type Peers, startPeers } from "./peers/peers.ts";
import { type Receiver, startReceiver } from "./receiver.ts";

/** rows that are there before, in the comparison of growth; the last is the one with goals */
export const sizes = [1000, 10_000, 100_000] as const;

export interface Setting extends AsyncDisposable {
  /** a database of trackio's without rows */
  empty: string;
  receiver: Receiver;
  /** all databases that they send lie in `peersFolder` */
  peers: Peers;
  peersFolder: string;
  /** where our own databases are written, out of the syncer's sight, and anything else may lie */
  folder: string;
}

/** What was spent until the rows were on the server. */
export interface Cost extends Traffic {
  processorMs: number;
  elapsedMs: number;
}

/** Names of one length, so that they weigh the same in every request. */
export function projectOf(side: "ours" | "sync" | "loop", rows: number): string {
  return `${side}-${String(rows).padStart(6, "0")}`;
}

export async function prepare(folder: string): Promise<Setting> {
  await using started = new AsyncDisposableStack();
  const empty = await emptyDatabase(join(folder, "empty"));
  const [serverFolder, peersFolder] = [join(folder, "server"), join(folder, "peers")];
  mkdirSync(serverFolder);
  // what the peers have sent before: the server's databases are of the same make
  for (const rows of sizes) {
    for (const project of [projectOf("sync", rows), projectOf("loop", rows)]) {
      databaseOfRows(empty, join(peersFolder, `${project}.db`), rows);
      copyFileSync(join(peersFolder, `${project}.db`), join(serverFolder, `${project}.db`));
    }
  }
  const receiver = started.use(await startReceiver(serverFolder));
  const peers = started.use(await startPeers(peersFolder, receiver.front.address));
  const kept = started.move();
  return { empty, receiver, peers, peersFolder, folder, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** One project of ours on its way to the server. */
export interface OurProject {
  name: string;
  /** Starts the syncer, with what it remembers of its last time. */
  start(intervalMs: number): Promise<RunningSyncer>;
  /** Publishes so many new rows; the cost until the syncer says that they have arrived, with what it does besides. */
  publishRows(syncer: RunningSyncer, count: number): Promise<Cost>;
}

/** `rows`: how many it has at first, which nobody has published yet. */
export function ourProject({ empty, folder, receiver }: Setting, name: string, rows: number): OurProject {
  const place = join(folder, name);
  const [written, published] = [join(place, "written.db"), join(place, "published", `${name}.db`)];
  databaseOfRows(empty, written, rows);
  let isNew = true;
  return {
    name,
    start: (intervalMs) =>
      startSyncer({
        folder: join(place, "published"),
        stateFolder: join(place, "state"),
        address: receiver.front.address,
        intervalMs,
      }),
    async publishRows(syncer, count) {
      // the first time, the rows that it has at first are among them
      if (!isNew) appendRows(written, count);
      isNew = false;
      const { sent } = await syncer.until(() => true);
      return await costOf(receiver, async () => {
        const before = syncer.processorMs();
        putCopy(written, published);
        await syncer.until((summary) => summary.waiting === 0 && summary.sent >= sent + count);
        return { processorMs: syncer.processorMs() - before };
      });
    },
  };
}

/** Runs it; what it says of processor time, with what has passed to the server meanwhile. */
export async function costOf(receiver: Receiver, run: () => Promise<{ processorMs: number }>): Promise<Cost> {
  receiver.front.take();
  const started = performance.now();
  const { processorMs } = await run();
  return { processorMs, elapsedMs: performance.now() - started, ...receiver.front.take() };
}

/** Throws when the server has another number of a project's rows: then the figures are of something else. */
export async function expectRows(receiver: Receiver, project: string, rows: number): Promise<void> {
  const found = await receiver.rows(project);
  if (found !== rows) throw new Error(`the server has ${found} rows of ${project}, and not ${rows}`);
}
