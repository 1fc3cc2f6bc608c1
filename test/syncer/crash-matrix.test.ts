/** Crashes along the chain from trackio in the sandbox to trackio's server: every row arrives once. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { processes, startOf, untilNone } from "../helpers/processes.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { Chain, type Fault, faults, projects } from "./crash-matrix/chain.ts";
import { assertAllRemembered, assertSameRows } from "./crash-matrix/ledger.ts";
import { Seeded } from "./crash-matrix/seeded.ts";
import { isInstalled, newest } from "./runs.ts";

const rounds = Number(process.env["CRASH_MATRIX_ROUNDS"] ?? 200);
const seed = Number(process.env["CRASH_MATRIX_SEED"] ?? 20_261_124);
/** each fault must have happened so often */
const least = 3;
/** others come twice as often: a new server takes long, and watermarks are damaged rarely */
const isCostly = (fault: Fault) => /^server|damaged/.test(fault);

test("every row arrives once, whatever is killed, cut, refused or lost on its way", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  context.diagnostic(`CRASH_MATRIX_SEED=${seed}`);
  await using folder = await temporaryFolder();
  const seeded = new Seeded(seed);
  let round = 0;
  try {
    await using chain = await Chain.start(folder.path, seeded);
    let deck: Fault[] = [];
    for (; round < rounds; round += 1) {
      if (deck.length < 2) deck = seeded.shuffled([...faults, ...faults.filter((fault) => !isCostly(fault))]);
      await chain.round(deck.splice(0, 1 + seeded.below(2)));
    }
    for (const fault of faults) {
      while ((chain.counts.get(fault) ?? 0) < least) await chain.round([fault]);
    }
    await chain.finish();
    await assertEnded(chain, folder.path, context);
  } catch (error) {
    // what failed first, and not what it made fail at the end
    const first = error instanceof SuppressedError ? error.suppressed : error;
    const words = first instanceof Error ? first.message : String(first);
    throw new Error(`CRASH_MATRIX_SEED=${seed}, round ${round}: ${words}`, { cause: error });
  }
});

async function assertEnded({ places, counts, pids }: Chain, folder: string, context: TestContext): Promise<void> {
  const rows = projects.map((project) => assertSameRows(places, project));
  assertAllRemembered(places, projects);
  context.diagnostic(`${rows.join(" + ")} rows of metrics; ${JSON.stringify(Object.fromEntries(counts))}`);
  const left = await untilNone(async () =>
    (await processes()).filter(
      ({ pid, command, environment }) =>
        (pids.has(pid) && startOf(pid) !== undefined && pids.get(pid) === startOf(pid)) ||
        [command, ...environment].some((words) => words.includes(folder)),
    ),
  );
  assert.deepEqual(
    left.map(({ command }) => command),
    [],
    "still running",
  );
}
