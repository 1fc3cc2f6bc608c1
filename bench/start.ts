/** Area `start`: how long a user waits, beside the same work without modal-sb; what an idle session costs. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { cpus } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { createProvider } from "../src/sandbox/sandbox.ts";
import { attachToAgent } from "../src/session/agent-link.ts";
import { agentSpec } from "../src/session/agent-role.ts";
import { processes } from "../test/helpers/processes.ts";
import { testLimits } from "../test/helpers/sandbox-spec.ts";
import { temporaryFolder } from "../test/helpers/temporary-folder.ts";
import { alternate, type Figures, figure, median } from "./measure.ts";

const root = join(import.meta.dirname, "..");
const rounds = 11;
const idleSeconds = 20;

/** Runs the area; the figures by name. Milliseconds are of this machine, ratios of this run. */
export async function benchStart(): Promise<Figures> {
  await using folder = await temporaryFolder();
  const api = await startApi();
  try {
    return {
      ...(await hello(folder.path)),
      ...(await tokens(folder.path, api.origin)),
      ...(await idle(folder.path, api.origin)),
    };
  } finally {
    api.process.kill();
  }
}

async function hello(folder: string): Promise<Figures> {
  await using provider = await createProvider("local", {
    stateFolder: join(folder, "hello"),
    hostEnvironment: process.env,
  });
  await using data = await provider.volume("bench-data");
  await using app = await provider.volume("bench-app");
  await using trackio = await provider.volume("bench-trackio");
  const inSandbox = async () => {
    const spec = agentSpec({
      options: {
        provider,
        name: "bench",
        anthropic: { origin: "http://127.0.0.1:9" },
        maxTurns: 1,
        egressHostnames: [],
        limits: testLimits,
        knownCredentials: new Map(),
        stateFolder: folder,
      },
      sessionId: randomUUID(),
      token: "token",
      data,
      app,
      trackio,
      proxy: { url: "http://127.0.0.1:9" },
    });
    const started = performance.now();
    await using sandbox = await provider.create(spec);
    const greeted = Promise.withResolvers<void>();
    const nothing = () => {};
    const events = { onEvent: () => greeted.resolve(), onBadLine: nothing, onConnection: nothing, pending: () => [] };
    await attachToAgent(sandbox, 0, events, false);
    await greeted.promise;
    return performance.now() - started;
  };
  const bare = async () => {
    const place = join(folder, randomUUID());
    mkdirSync(place);
    const config = {
      sessionId: randomUUID(),
      socketPath: join(place, "agent.sock"),
      dataFolder: place,
      cwd: place,
      metricsFolder: join(place, "metrics"),
      maxTurns: 1,
    };
    const started = performance.now();
    const daemon = spawn(process.execPath, [join(root, "src/agent/daemon.ts")], {
      stdio: "ignore",
      env: { PATH: process.env["PATH"], HOME: place, IS_SANDBOX: "1", MODAL_SB_AGENT: JSON.stringify(config) },
    });
    await greeting(config.socketPath);
    const elapsed = performance.now() - started;
    daemon.kill("SIGKILL");
    await once(daemon, "exit");
    return elapsed;
  };
  const { a, b } = await alternate(rounds, inSandbox, bare);
  return {
    "hello in a sandbox": figure(median(a), "ms"),
    "hello of the same program bare": figure(median(b), "ms"),
    "hello, ratio": figure(median(a) / median(b), "×", 2),
  };
}

/** Resolves with the daemon's first line. */
async function greeting(socketPath: string): Promise<void> {
  for (;;) {
    const socket = connect(socketPath);
    try {
      await once(socket, "connect");
      socket.write('{"type":"attach","after":0}\n');
      await once(socket, "data");
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 2));
    } finally {
      socket.destroy();
    }
  }
}

/** Milliseconds to the first text of turn 1, from the start of the program, and of turn 2, from its message. */
type Waits = [first: number, second: number];

async function tokens(folder: string, origin: string): Promise<Figures> {
  const ours = () =>
    waitsOf(
      () => startCli(folder, origin),
      (line) => line.includes('"text_delta"'),
      (line) => line.includes('"END_TURN"'),
    );
  const bare = () =>
    waitsOf(
      () => startBare(folder, origin),
      (line) => line === "text",
      (line) => line === "end",
    );
  const { a, b } = await alternate(rounds, ours, bare);
  const turn = (waits: readonly Waits[], index: 0 | 1) => median(waits.map((wait) => wait[index]));
  return {
    "first text of turn 1": figure(turn(a, 0), "ms"),
    "first text of turn 1, bare SDK": figure(turn(b, 0), "ms"),
    "turn 1, ratio": figure(turn(a, 0) / turn(b, 0), "×", 1.5),
    "first text of turn 2": figure(turn(a, 1), "ms"),
    "first text of turn 2, bare SDK": figure(turn(b, 1), "ms"),
    "turn 2, ratio": figure(turn(a, 1) / turn(b, 1), "×", 1.1),
  };
}

async function waitsOf(
  start: () => ChildProcess,
  isText: (line: string) => boolean,
  isEnd: (line: string) => boolean,
): Promise<Waits> {
  const started = performance.now();
  const child = start();
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const first = await turnWait(child, lines, started, isText, isEnd);
  const second = await turnWait(child, lines, performance.now(), isText, isEnd);
  child.stdin?.end();
  await once(child, "exit");
  return [first, second];
}

async function turnWait(
  child: ChildProcess,
  lines: Interface,
  started: number,
  isText: (line: string) => boolean,
  isEnd: (line: string) => boolean,
): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  let wait: number | undefined;
  const onLine = (line: string) => {
    if (isText(line)) wait ??= performance.now() - started;
    if (isEnd(line) && wait !== undefined) resolve(wait);
  };
  lines.on("line", onLine);
  child.stdin?.write("hello\n");
  const result = await promise;
  lines.off("line", onLine);
  return result;
}

function startCli(folder: string, origin: string): ChildProcess {
  return spawn(process.execPath, [join(root, "bin/modal-sb.js"), "--output", "stream-json"], {
    stdio: ["pipe", "pipe", "ignore"],
    cwd: folder,
    env: {
      PATH: process.env["PATH"],
      HOME: folder,
      MODAL_SB_STATE_FOLDER: join(folder, "state"),
      MODAL_SB_ANTHROPIC_ORIGIN: origin,
      ANTHROPIC_API_KEY: "sk-ant-bench-000000000000000000",
    },
  });
}

function startBare(folder: string, origin: string): ChildProcess {
  return spawn(process.execPath, [join(root, "bench/bare-sdk.ts")], {
    stdio: ["pipe", "pipe", "ignore"],
    cwd: folder,
    env: {
      PATH: process.env["PATH"],
      HOME: folder,
      IS_SANDBOX: "1",
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      ANTHROPIC_BASE_URL: origin,
      ANTHROPIC_API_KEY: "sk-ant-bench-000000000000000000",
    },
  });
}

/** Processor time and memory of a session at rest: all our processes on both sides of the wall, without claude's. */
async function idle(folder: string, origin: string): Promise<Figures> {
  const cli = startCli(folder, origin);
  const lines = createInterface({ input: cli.stdout as NodeJS.ReadableStream });
  await turnWait(
    cli,
    lines,
    performance.now(),
    (line) => line.includes('"text_delta"'),
    (line) => line.includes('"END_TURN"'),
  );
  const all = (await processes()).filter(
    ({ pid, environment }) =>
      pid === cli.pid || environment.some((entry) => entry.includes(origin) || entry.includes(`=${folder}`)),
  );
  const sandboxed = (await processes()).filter(({ environment }) =>
    environment.some((entry) => entry.startsWith("MODAL_SANDBOX_ID=")),
  );
  const own = [...new Map([...all, ...sandboxed].map((found) => [found.pid, found])).values()].filter(
    ({ executable }) => !executable.endsWith("/claude"),
  );
  const ticks = () => own.reduce((sum, { pid }) => sum + processorTicks(pid), 0);
  const before = ticks();
  await new Promise((resolve) => setTimeout(resolve, idleSeconds * 1000));
  const percent = ticks() - before;
  const memory = own.reduce((sum, { pid }) => sum + proportionalMiB(pid), 0);
  cli.stdin?.end();
  await once(cli, "exit");
  return {
    // 100 ticks are a second
    "idle session, processor": figure(percent / idleSeconds, "% of one core", 0.5),
    "own processes, memory": figure(memory, "MiB", 250),
  };
}

function processorTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

/** Shared pages count in parts, so that the sum over processes is what they take together. */
function proportionalMiB(pid: number): number {
  return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) / 1024;
}

async function startApi(): Promise<{ process: ChildProcess; origin: string }> {
  const child = spawn(process.execPath, [join(root, "src/demo/scripted-api-main.ts"), "--script", "echo"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const [line] = (await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), "line")) as [string];
  return { process: child, origin: (JSON.parse(line) as { origin: string }).origin };
}

/** For the heading of the table. */
export function machine(): string {
  return `${cpus().length} cores, Node ${process.versions.node}`;
}
