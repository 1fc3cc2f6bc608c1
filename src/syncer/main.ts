/**
 * The syncer as a process: looks every few seconds, and obeys its control socket: `follow` (events `{event: "synced"}`
 * with a summary whenever it changed), `drain` (all that can be sent within `withinMs`), both answered with a summary.
 * With MODAL_SB_SYNCER_ONCE (milliseconds) in its environment it drains once instead.
 */
import { execFileSync } from "node:child_process";
import { dirname } from "node:path";
import { type ControlPeer, type ControlRequest, openControlServer } from "../control-server.ts";
import { messageOf } from "../errors.ts";
import { isBehind, type SyncStatus } from "./sync-status.ts";
import { type SyncSummary, summaryOf } from "./sync-summary.ts";
import { Syncer, type SyncerOptions } from "./syncer.ts";
import { readSyncerConfig, type SyncerConfig } from "./syncer-config.ts";
import { WantedSpace } from "./wanted-space.ts";

/** before the next look at a backlog, in milliseconds */
const shortestWaitMs = 100;
/** exit code of a wrong setting */
const exitUsage = 2;

let isStopped = false;
let wake = () => {};
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => {
    isStopped = true;
    wake();
  });
}

try {
  const config = readSyncerConfig(process.env["MODAL_SB_SYNCER"], process.env["MODAL_SB_SYNCER_ONCE"]);
  if (config.onceMs === undefined) {
    await using syncer = new Syncer(config);
    await serve(syncer, new WantedSpace(config), config);
  } else await lookOnce(config, config.onceMs);
} catch (error) {
  process.stderr.write(`the syncer cannot go on: ${messageOf(error)}\n`);
  process.exitCode = exitUsage;
}

/**
 * For volumes that can be refreshed only while nothing on them is open: says how it stands in one line of JSON on stdout
 * when all files are closed, and what it remembers is committed.
 */
async function lookOnce(config: SyncerConfig & SyncerOptions, onceMs: number): Promise<void> {
  const space = new WantedSpace(config);
  await space.ensure();
  let summary: SyncSummary;
  {
    await using syncer = new Syncer({ ...config, stateOnVolume: true });
    summary = summaryWith(space, await syncer.drain(Date.now() + onceMs));
  }
  // commits a volume of Modal; elsewhere it does no harm
  execFileSync("sync", [dirname(config.statePath)]);
  process.stdout.write(`${JSON.stringify({ summary })}\n`);
}

function summaryWith(space: WantedSpace, status: SyncStatus): SyncSummary {
  const found = summaryOf(status);
  return space.error === undefined ? found : { ...found, errors: [space.error, ...found.errors] };
}

async function serve(syncer: Syncer, space: WantedSpace, { controlPath, intervalMs }: SyncerConfig): Promise<void> {
  const followers = new Set<ControlPeer>();
  let told = "";
  const summary = (status: SyncStatus) => summaryWith(space, status);
  const tell = (status: SyncStatus) => {
    const words = JSON.stringify(summary(status));
    if (words === told) return;
    told = words;
    for (const peer of followers) peer.send({ event: "synced", summary: summary(status) });
  };
  const perform = async (request: ControlRequest, peer: ControlPeer) => {
    switch (request["op"]) {
      case "follow":
        followers.add(peer);
        peer.onClose(() => followers.delete(peer));
        return { summary: summary(syncer.status()) };
      case "drain": {
        const status = await syncer.drain(Date.now() + Number(request["withinMs"] ?? 0));
        tell(status);
        return { summary: summary(status) };
      }
      default:
        throw new Error("Unknown op: it is one of follow, drain");
    }
  };
  await using _control = await openControlServer(controlPath, perform);
  while (!isStopped) {
    await space.ensure();
    const status = await syncer.poll();
    tell(status);
    if (!isStopped) await wait(isBehind(status) ? shortestWaitMs : intervalMs);
  }
}

/** Or until the process is told to stop. An AbortSignal would cost a fifth of an idle look. */
function wait(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}
