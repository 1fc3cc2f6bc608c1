/** The syncer of a session as a process of its own, with its control socket. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SyncSummary } from "../../src/syncer/sync-summary.ts";
import type { SyncerConfig } from "../../src/syncer/syncer-config.ts";
import { untilListening } from "../helpers/until-listening.ts";
import { controlOnce } from "../proxy/running-proxy.ts";
import { writeToken } from "./trackio.ts";

const program = join(import.meta.dirname, "../../src/syncer/main.ts");

export interface RunningSyncer extends AsyncDisposable {
  process: ChildProcess;
  exited: Promise<unknown>;
  /** Sends what can be sent now, and says how it stands. */
  drain(withinMs?: number): Promise<SyncSummary>;
  /** The most memory that it and its reader have had, in MiB. */
  peakMiB(): number;
}

/** `home` keeps its state, token and socket; another syncer there goes on with them. */
export async function startSyncer(
  folder: string,
  home: string,
  server: string,
  changes: Partial<SyncerConfig> = {},
): Promise<RunningSyncer> {
  mkdirSync(join(home, "secrets"), { recursive: true });
  writeFileSync(join(home, "secrets/TRACKIO_WRITE_TOKEN"), writeToken, { mode: 0o600 });
  const controlPath = join(home, "control.sock");
  const config: SyncerConfig = {
    ...{ folder, access: "published", statePath: join(home, "watermarks.db"), spaces: [], server },
    ...{ withMedia: false, maxBytesPerHour: 2 ** 40, intervalMs: 200 },
    ...{ credentialsFolder: join(home, "secrets"), controlPath },
    ...changes,
  };
  const env = { PATH: process.env["PATH"], MODAL_SB_SYNCER: JSON.stringify(config) };
  const child = spawn(process.execPath, [program], { env, stdio: ["ignore", "inherit", "inherit"] });
  const exited = once(child, "exit");
  await untilListening(controlPath, exited);
  return {
    process: child,
    exited,
    async drain(withinMs = 0) {
      const ended = exited.then(() => Promise.reject(new Error("the syncer ended")));
      const asked = controlOnce(controlPath, JSON.stringify({ id: 1, op: "drain", withinMs }));
      const answer = await Promise.race([asked, ended]);
      return answer["summary"] as SyncSummary;
    },
    peakMiB: () => Math.max(...familyOf(child.pid ?? 0).map(peakOf)),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

function familyOf(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number),
  );
  return [pid, ...children.flatMap(familyOf)];
}

function peakOf(pid: number): number {
  return Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
}
