/** What the publisher of a large database takes from a training that logs, and what one publication takes by itself. */
import { once } from "node:events";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { startPython } from "../../test/syncer/python-process.ts";
import { alternate, type Figures, figure, median } from "../measure.ts";
import { quantile } from "../proxy/quantile.ts";
import { type Child, startProgram } from "./children.ts";
import { databaseOfBytes } from "./databases.ts";
import { processorMs } from "./processor.ts";
import { trackioVersion } from "./versions.ts";

const program = join(import.meta.dirname, "../../src/agent/publisher/publisher-main.ts");
const databaseBytes = 200 * 1000 * 1000;
const rounds = 6;
const pace = { seconds: 4, everyMs: 1 };
const mostAddedPercent = 5;
const lookMs = 5;
const answerStart = "logged ".length;

/** What the writer has seen in one stretch of time. */
interface Stretch {
  logMs: number[];
  flushMs: number[];
}

interface Publication {
  elapsedMs: number;
  processorMs: number;
}

/** `empty`: a database of trackio's without rows. */
export async function publication(empty: string, folder: string): Promise<Figures> {
  const [from, to] = [join(folder, "publication/trackio"), join(folder, "publication/published")];
  const path = join(from, "big.db");
  databaseOfBytes(empty, path, databaseBytes);
  await using writer = startPython(trackioVersion, from, readFileSync(join(import.meta.dirname, "writer.py"), "utf8"));
  const stretch = async () => JSON.parse((await writer.ask(JSON.stringify(pace))).slice(answerStart)) as Stretch;
  const publications: Publication[] = [];
  const whilePublishing = async () => {
    await using publisher = await startPublisher(from, to);
    const first = publicationOf(publisher, join(to, "big.db"));
    const seen = await stretch();
    publications.push(await first);
    return seen;
  };
  const { a: without, b: during } = await alternate(rounds, stretch, whilePublishing);
  const ratio = (of: (seen: Stretch) => number) =>
    median(during.map((seen, index) => of(seen) / of(without[index] ?? seen)));
  const added = (of: (seen: Stretch) => number) => 100 * (ratio(of) - 1);
  const at = (stretches: readonly Stretch[], of: (seen: Stretch) => number) => figure(median(stretches.map(of)), "ms");
  const name = `publication of ${databaseBytes / 1e6} MB`;
  return {
    [`${name}, time`]: figure(median(publications.map(({ elapsedMs }) => elapsedMs)), "ms"),
    [`${name}, processor`]: figure(median(publications.map((each) => each.processorMs)), "ms"),
    [`${name}, log() p99 without`]: at(without, logP99),
    [`${name}, log() p99 beside it`]: at(during, logP99),
    [`${name}, log() p99 added`]: figure(added(logP99), "%", mostAddedPercent),
    [`${name}, log() p99, from one stretch without to the next`]: figure(unrest(without.map(logP99)), "%"),
    [`${name}, flush median without`]: at(without, flushMedian),
    [`${name}, flush median beside it`]: at(during, flushMedian),
    [`${name}, longest flush without`]: at(without, longestFlush),
    [`${name}, longest flush beside it`]: at(during, longestFlush),
  };
}

const logP99 = ({ logMs }: Stretch) => quantile(logMs, 0.99);
const flushMedian = ({ flushMs }: Stretch) => median(flushMs);
const longestFlush = ({ flushMs }: Stretch) => Math.max(...flushMs);

/** By how many percent a value and the one before it differ: what is added and is less cannot be told from chance. */
function unrest(values: readonly number[]): number {
  const steps = values.slice(1).map((value, index) => value / (values[index] ?? value));
  return 100 * median(steps.map((step) => Math.max(step, 1 / step) - 1));
}

/** Has brought back what there was; its first publication begins. */
async function startPublisher(from: string, to: string): Promise<Child> {
  const publisher = startProgram(program, [from, to], {});
  await Promise.race([once(createInterface({ input: publisher.process.stdout }), "line"), publisher.ended]);
  return publisher;
}

/** From now until the copy is in its place. */
async function publicationOf({ pid, ended }: Child, path: string): Promise<Publication> {
  const inode = () => statSync(path, { throwIfNoEntry: false })?.ino;
  const [before, started, spent] = [inode(), performance.now(), processorMs(pid)];
  // a watch would wake us at each page that is written
  while (inode() === before) await Promise.race([delay(lookMs), ended]);
  return { elapsedMs: performance.now() - started, processorMs: processorMs(pid) - spent };
}
