/**
 * The publisher as a process: restores, then publishes until it is told to stop (SIGTERM, or the end of its stdin), then
 * publishes once more. Arguments: the trackio folder, the folder of the copies, and "commit" where that folder is a volume
 * on which `sync` makes a publication last. Says on stdout, a JSON object a line: `{restored: databases}` once, and
 * `{problem: words}`.
 */
import { spawnSync } from "node:child_process";
import { setPriority } from "node:os";
import { setTimeout } from "node:timers/promises";
import { Publisher } from "./publisher.ts";

const pollMs = 1000;

const [from, to, commit] = process.argv.slice(2);
if (from === undefined || to === undefined)
  throw new Error("usage: publisher-main.js <trackio folder> <folder of copies>");

// behind what the agent computes, but not so far that a busy machine starves it
setPriority(5);
// the syncer reads the copies as another user
process.umask(0o022);
const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());
process.stdin.resume().once("end", () => stop.abort());

const publisher = new Publisher({ from, to });
say({ restored: await publisher.restore() });
const said = new Set<string>();
let committed = 0;
while (!stop.signal.aborted) {
  tell(await publisher.publish());
  commitNews();
  await setTimeout(pollMs, undefined, { signal: stop.signal }).catch(() => {});
}
tell(await publisher.publish(true));
commitNews(true);
process.exit(0);

function commitNews(isLast = false): void {
  if (commit === undefined || (publisher.publications === committed && !isLast)) return;
  committed = publisher.publications;
  const { status } = spawnSync("sync", [to as string], { stdio: "ignore" });
  if (status !== 0) tell(["the published metrics could not be committed at once; they are in the background"]);
}

function tell(problems: readonly string[]): void {
  for (const problem of problems) {
    if (!said.has(problem)) say({ problem });
    said.add(problem);
  }
}

function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}
