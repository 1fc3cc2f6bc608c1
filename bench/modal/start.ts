/**
 * How long modal-sb itself takes on Modal, the waiting for calls taken out: from the command to the agent's hello, and to a
 * session that runs already. The cloud is the emulator of the tests, so its own times mean nothing.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { type ModalUser, modalUser } from "../../test/helpers/modal-user.ts";
import { type Figures, figure, median } from "../measure.ts";

const rounds = 5;
const goals = { ownMs: 300, attachMs: 1000 };
const clockTicksPerSecond = 100;

/** Calls that last as long as what they wait for; everything else is asked and answered. */
const waiting = new Set([
  ...["SandboxWait", "SandboxWaitV2", "SandboxGetLogs", "SandboxStdioReadV2"],
  ...["TaskExecWait", "TaskExecStdioRead"],
]);

interface Run {
  /** from the command to the agent's hello, in milliseconds */
  helloMs: number;
  /** to the first word of the answer */
  firstTokenMs: number;
  /** of it, calls that were under way */
  callsMs: number;
  /** of it, from the agent's sandbox to the daemon's hello: the daemon and claude start there */
  agentMs: number;
  /** processor time of the command until the first word */
  cpuMs: number;
  calls: number;
}

export async function benchModalStart(): Promise<Figures> {
  await using modal = await modalUser();
  // builds the images
  await oneRun(modal, ["--gpu", "A10", "-s", "first", "-p", "hello"]);
  const starts: Run[] = [];
  const attaches: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    starts.push(await oneRun(modal, ["--gpu", "A10", "-s", `round-${round}`, "-p", "hello"]));
    await modal.run(["-s", `left-${round}`, "--detach", "-p", "hello"]);
    attaches.push((await oneRun(modal, ["attach", `left-${round}`])).helloMs);
  }
  const own = starts.map(({ helloMs, callsMs, agentMs }) => helloMs - callsMs - agentMs);
  const of = (field: keyof Run) => median(starts.map((run) => run[field]));
  return {
    "modal: own time from command to hello": figure(median(own), "ms", goals.ownMs),
    "modal: processor time until the first word": figure(of("cpuMs"), "ms"),
    "modal: command to first word, with the emulator's time": figure(of("firstTokenMs"), "ms"),
    "modal: attach to a running session": figure(median(attaches), "ms", goals.attachMs),
    "modal: calls of a session that are asked and answered": figure(of("calls"), "calls"),
  };
}

async function oneRun(modal: ModalUser, argv: readonly string[]): Promise<Run> {
  const { emulator } = modal;
  const before = emulator.calls.length;
  const startedAt = Date.now();
  const child = modal.start(["--output", "stream-json", ...argv]);
  child.stdin?.end();
  child.stderr?.resume();
  const run: Run = { helloMs: 0, firstTokenMs: 0, callsMs: 0, agentMs: 0, cpuMs: 0, calls: 0 };
  const ended = new Promise((resolve) => child.once("close", resolve));
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const { type } = JSON.parse(line) as { type: string };
    if (type === "hello" && run.helloMs === 0) run.helloMs = Date.now() - startedAt;
    if (type === "text_delta" && run.firstTokenMs === 0) {
      run.firstTokenMs = Date.now() - startedAt;
      run.cpuMs = cpuOf(child.pid ?? 0);
    }
  }
  await ended;
  const calls = emulator.calls.slice(before).filter(({ method }) => !waiting.has(method));
  run.calls = calls.length;
  const helloAt = startedAt + run.helloMs;
  const spans = calls.map(({ atMs, durationMs = 0 }) => [atMs, Math.min(atMs + durationMs, helloAt)] as const);
  run.callsMs = covered(spans.filter(([from]) => from < helloAt));
  const agentUp = calls
    .filter(({ method }) => method === "SandboxGetTaskId")
    .map(({ atMs, durationMs = 0 }) => atMs + durationMs);
  run.agentMs =
    agentUp.length === 0 ? 0 : Math.max(0, helloAt - Math.min(...agentUp)) - coveredAfter(spans, Math.min(...agentUp));
  return run;
}

/** Milliseconds that at least one of the spans covers. */
function covered(spans: readonly (readonly [from: number, to: number])[]): number {
  let sum = 0;
  let end = 0;
  for (const [from, to] of spans.toSorted(([one], [other]) => one - other)) {
    sum += Math.max(0, to - Math.max(from, end));
    end = Math.max(end, to);
  }
  return sum;
}

function coveredAfter(spans: readonly (readonly [from: number, to: number])[], at: number): number {
  return covered(spans.filter(([, to]) => to > at).map(([from, to]) => [Math.max(from, at), to] as const));
}

/** User and system time of a process, in milliseconds; 0 when it has ended. */
function cpuOf(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return ((Number(fields[11]) + Number(fields[12])) * 1000) / clockTicksPerSecond;
  } catch {
    return 0;
  }
}
