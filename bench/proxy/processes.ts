/** The benchmark's child processes: pinned to a core, ready when their port answers, ended however the run ends. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** The proxy under test has a core for itself; what loads it and what answers it share the other. */
export const cores = { proxy: 0, rest: 1 } as const;

export interface Child extends AsyncDisposable {
  process: ChildProcess;
  pid: number;
  /** Its last words, for an error. */
  log(): string;
}

interface ChildOptions {
  name: string;
  command: readonly [program: string, ...args: string[]];
  core: keyof typeof cores;
  /** where its output is kept */
  folder: string;
  env?: Record<string, string>;
  /** with a channel for messages */
  ipc?: boolean;
}

const running = new Set<ChildProcess>();
// also after an error that nobody caught; a signal becomes an exit in `endOnSignals`
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** From here on Ctrl-C ends the children too; undone by disposal. */
export function endOnSignals(): Disposable {
  const onSignal = () => process.exit(130);
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.once(signal, onSignal);
  return {
    [Symbol.dispose]() {
      for (const signal of signals) process.off(signal, onSignal);
    },
  };
}

/** Takes this process off the proxy's core; disposal gives it back all cores it had. */
export function pinSelf(): Disposable {
  const pin = (list: string) => execFileSync("taskset", ["-acp", list, String(process.pid)], { stdio: "ignore" });
  const before = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0-1";
  pin(String(cores.rest));
  return {
    [Symbol.dispose]() {
      pin(before);
    },
  };
}

/** Starts it; taskset becomes the program, so the pid is the program's own. */
export function startChild({ name, command, core, folder, env = {}, ipc = false }: ChildOptions): Child {
  const logPath = join(folder, `${name.replaceAll(/\W+/g, "-")}.log`);
  const log = openSync(logPath, "w");
  const child = spawn("taskset", ["-c", String(cores[core]), ...command], {
    stdio: ["ignore", log, log, ...(ipc ? (["ipc"] as const) : [])],
    cwd: folder,
    env: { PATH: process.env["PATH"], HOME: folder, ...env },
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  child.on("error", () => running.delete(child));
  if (child.pid === undefined) throw new Error(`${name} cannot be started: is taskset (util-linux) there?`);
  return {
    process: child,
    pid: child.pid,
    log: () => readFileSync(logPath, "utf8").slice(-1000),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** Resolves when something accepts at `place`; throws the child's last words when it ends before. */
export async function untilListening(child: Child, place: number | string): Promise<void> {
  for (;;) {
    if (child.process.exitCode !== null)
      throw new Error(`it ended with code ${child.process.exitCode}: ${child.log()}`);
    const socket = typeof place === "number" ? connect(place, "127.0.0.1") : connect(place);
    try {
      await once(socket, "connect");
      return;
    } catch {
      await delay(10);
    } finally {
      socket.destroy();
    }
  }
}

/** A port that was free a moment ago: the peers cannot be asked for the one they chose. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Resident memory, in bytes. */
export function residentBytes(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * 4096;
}

/** Processor time so far, in seconds, of all its threads. */
export function processorSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  // in ticks, of which a second has 100
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
