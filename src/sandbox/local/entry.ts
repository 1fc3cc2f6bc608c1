/** A process beside a sandbox's main one, in all its namespaces; by whichever process of the same user asks for it. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import type { ExecOptions, Limits, SandboxProcess } from "../provider.ts";
import type { HostPrograms } from "./host-programs.ts";
import type { Identity } from "./identity.ts";
import { enterArguments } from "./launch.ts";
import { childrenOf, killQuietly } from "./process-table.ts";

/** Where to, and as whom. */
export interface Entry {
  programs: HostPrograms;
  identity: Identity;
  /** the sandbox's first process, by the host's number */
  pid: number;
  /** whose network it has */
  network: "own" | "host";
  limits: Pick<Limits, "fileSizeMiB" | "processes">;
  workingDirectory: string;
  /** the whole environment; programs of the host see it first, so that nobody in the sandbox may have written it */
  environment: Readonly<Record<string, string>>;
}

/** Starts `argv`; its host half stays in `started` until it ended. */
export function enter(
  entry: Entry,
  argv: readonly string[],
  { env, workingDirectory = entry.workingDirectory }: ExecOptions,
  started: Set<ChildProcess>,
): SandboxProcess {
  const [program, ...rest] = enterArguments({ ...entry, workingDirectory, argv });
  const child = spawn(program as string, rest, {
    env: { ...entry.environment, ...env },
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
  });
  started.add(child);
  child.stdin.on("error", () => {});
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once("error", () => resolve({ code: 127, signal: null }));
    child.once("exit", (code, signal) => resolve({ code, signal }));
  }).finally(() => started.delete(child));
  return {
    stdin: child.stdin as Writable,
    stdout: child.stdout as Readable,
    stderr: child.stderr as Readable,
    exited,
    kill: (signal) => signalEntered(child, signal),
  };
}

/** nsenter waits for the process that it put into the namespace: that one is signalled, not nsenter. */
function signalEntered(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const inside = childrenOf(child.pid);
  if (inside.length === 0) child.kill(signal);
  for (const pid of inside) killQuietly(pid, signal);
}
