/** Ends sessions: by the process that has one where there is such a process, else sandbox by sandbox. */
import { readFileSync, realpathSync } from "node:fs";
import { basename, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Config, Environment } from "../config/load.ts";
import { exitCodes, ModalSbError, messageOf, SandboxError } from "../errors.ts";
import type { Provider, Role, SandboxRecord, Volume } from "../sandbox/provider.ts";
import { forgetSandboxes } from "../session/inheritance.ts";
import { syncSession } from "../session/sync-session.ts";
import { sessionsByTime } from "./accounts.ts";
import { configuredMetrics } from "./brokered-access.ts";
import { limitsOf } from "./open.ts";
import type { Output } from "./output.ts";
import {
  chooseSession,
  continuing,
  holderOf,
  listSandboxes,
  type RunningSession,
  runningSessions,
  sessionsOf,
  spentOn,
} from "./running.ts";
import { dollars, spanWords } from "./spans.ts";
import { problemTeller } from "./sync-words.ts";

export interface StopRequest {
  session: string | undefined;
  /** every running session */
  all: boolean;
}

export interface StopContext {
  provider: Provider;
  config: Config;
  environment: Environment;
  output: Output;
  stop: AbortSignal;
}

/** for the agent's last transcript and metrics; an agent that ends is not waited for */
const agentGraceMs = 12_000;
const trustedGraceMs = 1000;
/** a process of ours ends its agent within 12 s; metrics that cannot leave may hold it longer */
const ownerDeadlineMs = 30_000;
const lookMs = 100;

/** Ends one session or all; the first failure's exit code, after all were tried. */
export async function stopSessions({ session, all }: StopRequest, context: StopContext): Promise<number> {
  const { provider, config, output, stop } = context;
  const running = await runningSessions(provider);
  if (all && running.length === 0) output.note("No session is running.");
  if (
    session !== undefined &&
    !running.some(({ name }) => name === session) &&
    sessionsByTime(config).includes(session)
  ) {
    forgetSandboxes(resolve(config.settings.stateFolder), session);
    output.note(`The session "${session}" is not running.`);
    return exitCodes.success;
  }
  const chosen = all ? running : [chooseSession(session, running, config)];
  let exitCode: number = exitCodes.success;
  for (const one of chosen) {
    try {
      await stopOne(one, context);
    } catch (error) {
      stop.throwIfAborted();
      if (!(error instanceof ModalSbError) || chosen.length === 1) throw error;
      output.note(`error: ${error.message}${error.hint === undefined ? "" : `\nhint: ${error.hint}`}`);
      exitCode ||= error.exitCode;
    }
  }
  return exitCode;
}

async function stopOne(session: RunningSession, context: StopContext): Promise<void> {
  const { provider, config, output } = context;
  const { name } = session;
  const stateFolder = resolve(config.settings.stateFolder);
  let lock: Volume | undefined;
  const keep = (taken: Volume) => {
    lock = taken;
  };
  try {
    const { pid, unknown } = await holderOf(session, provider, stateFolder, keep);
    if (unknown !== undefined) throw new SandboxError(`Cannot stop the session "${name}": ${unknown}`);
    if (pid !== undefined) await askOwner(pid, session, context, keep);
    const left = lock ? sessionsOf(await listSandboxes(provider, name))[0] : undefined;
    if (left) await endInOrder(left, context);
    forgetSandboxes(stateFolder, name);
  } finally {
    await lock?.[Symbol.asyncDispose]();
  }
  for (const line of stoppedWords(session, config, Date.now())) output.note(line);
}

/** SIGTERM to the process that has the session, which then ends it in its own order; resolves when it is gone. */
async function askOwner(
  pid: number,
  session: RunningSession,
  { provider, config, output, stop }: StopContext,
  keep: (lock: Volume) => void,
): Promise<void> {
  refuseForeign(pid, session.name);
  output.note(`asking process ${pid} to end the session "${session.name}" …`);
  const others = sessionsOf(await listSandboxes(provider)).filter(
    (other) => other.name !== session.name && other.sandboxes.some(({ ownerPid }) => ownerPid === pid),
  );
  if (others.length > 0) output.note(`it also ends ${others.map(({ name }) => name).join(", ")}`);
  sendTerm(pid, session.name);
  const deadline = Date.now() + ownerDeadlineMs;
  for (;;) {
    const [left = { name: session.name, sandboxes: [] }] = sessionsOf(await listSandboxes(provider, session.name));
    if (left.sandboxes.every(({ ownerPid }) => ownerPid === undefined)) {
      const holder = await holderOf(left, provider, resolve(config.settings.stateFolder), keep);
      if (holder.unknown !== undefined) throw new SandboxError(`Cannot stop "${session.name}": ${holder.unknown}`);
      if (holder.pid === undefined) return;
    }
    if (Date.now() > deadline) {
      throw new SandboxError(`Process ${pid} has not ended the session "${session.name}" within 30 s`, {
        hint: `it may be sending metrics: try again, or kill -KILL ${pid}, which loses those that are under way`,
      });
    }
    await setTimeout(lookMs, undefined, { signal: stop });
  }
}

function sendTerm(pid: number, name: string): void {
  try {
    process.kill(pid, "SIGTERM");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return;
    throw new SandboxError(`Cannot end process ${pid}, which has the session "${name}": ${messageOf(error)}`, {
      hint: "stop it as the user that started it",
      cause: error,
    });
  }
}

/** A program that uses modal-sb as a library would lose more than its session. */
function refuseForeign(pid: number, name: string): void {
  if (pid !== 0 && pid !== process.pid && isModalSb(pid)) return;
  throw new SandboxError(
    `The session "${name}" belongs to process ${pid || "(unknown)"}, which is not the command modal-sb`,
    {
      hint: "end it there",
    },
  );
}

function isModalSb(pid: number): boolean {
  try {
    const script = readFileSync(`/proc/${pid}/cmdline`, "utf8")
      .split("\0")
      .find((word) => /modal-sb(\.js)?$/.test(word));
    return script !== undefined && basename(realpathSync(script)) === "modal-sb.js";
  } catch {
    // it has ended, or was started with a path that is none here
    return false;
  }
}

/** The agent first, so that its last rows are on their volume; the proxy last, for whoever still asks it. */
async function endInOrder({ name, sandboxes }: RunningSession, context: StopContext): Promise<void> {
  const { provider, output } = context;
  output.note(output.dim(`ending the session "${name}": its agent has ${agentGraceMs / 1000} s to save its work …`));
  const end = async (role: Role, graceMs: number) => {
    for (const record of sandboxes.filter((sandbox) => sandbox.role === role)) {
      await (await provider.open(record))?.terminate({ graceMs });
    }
  };
  await end("agent", agentGraceMs);
  await end("syncer", trustedGraceMs);
  await Promise.all([end("proxy", trustedGraceMs), sendLastMetrics(name, context)]);
}

/** Nobody has sent the metrics of a session that was left; what fails now can be tried again, and stops nothing. */
async function sendLastMetrics(
  name: string,
  { provider, config, environment, output, stop }: StopContext,
): Promise<void> {
  if (!config.settings.metrics) return;
  try {
    const metrics = await configuredMetrics(config, environment, provider.capabilities.storedSecrets);
    const { stateFolder } = config.settings;
    const options = { provider, name, stateFolder, limits: limitsOf(config.settings) };
    const summary = await syncSession({ options, metrics }, stop);
    if (!summary) return;
    problemTeller(output)(summary);
    const isDone = summary.waiting === 0 && summary.errors.length === 0;
    output.note(isDone ? "metrics: all sent" : `metrics: about ${summary.waiting} rows not sent`);
    if (!isDone) output.note(`hint: modal-sb sync ${name} tries again`);
  } catch (error) {
    stop.throwIfAborted();
    output.note(output.red(`metrics: not sent: ${messageOf(error)}`));
    output.note(`hint: modal-sb sync ${name} tries again`);
  }
}

function stoppedWords({ name, sandboxes }: RunningSession, config: Config, now: number): string[] {
  const costs = sandboxes.map((record) => spentOn(record, now) ?? 0);
  const sum = costs.reduce((all, one) => all + one, 0);
  const words = (record: SandboxRecord) =>
    `${record.role} ${record.id} (${spanWords(now - Date.parse(record.startedAt))})`;
  return [
    `Stopped "${name}": ${sandboxes.map(words).join(", ")}${sum > 0 ? `; about ${dollars(sum)} by list price` : ""}.`,
    `The conversation is kept: ${continuing(name, config)}`,
  ];
}
