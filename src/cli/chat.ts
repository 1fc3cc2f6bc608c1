/** The main command: a session with a person, with a program, or of one turn. */
import { randomUUID } from "node:crypto";
import { type Config, hostSources, loadConfig } from "../config/load.ts";
import type { SettingName } from "../config/schema.ts";
import { exitCodes, UsageError } from "../errors.ts";
import { maxMessageBytes } from "../protocol/limits.ts";
import type { EndTurn } from "../protocol/messages.ts";
import { tooLong } from "../session/message-size.ts";
import type { Session, SessionEvent } from "../session/session.ts";
import { costLine } from "./cost-line.ts";
import { type Display, jsonDisplay, pipeDisplay, terminalDisplay } from "./display.ts";
import { Ending } from "./ending.ts";
import { isToBeLeft, leave, leaveOnHangUp, refuseToLeave } from "./leave.ts";
import { runLines } from "./lines.ts";
import { configForSession, freshSessionName, openConfiguredSession, openProvider } from "./open.ts";
import type { Output } from "./output.ts";
import { runRepl } from "./repl.ts";
import { problemTeller, syncLine } from "./sync-words.ts";
import { outcomeOf } from "./turn-outcome.ts";

export interface ChatOptions {
  flags: Partial<Record<SettingName, unknown>>;
  /** undefined: a new session */
  session: string | undefined;
  /** the one message; true: it is read from stdin; undefined: many turns */
  print: string | true | undefined;
  format: "text" | "stream-json";
  /** leave the sandboxes running at the end; with one message, as soon as the agent has begun with it */
  detach: boolean;
}

/** Runs the command; the exit code. Rejects with the reason of `stop` when that fires. */
export async function chat(options: ChatOptions, output: Output, stop: AbortSignal): Promise<number> {
  const { environment, config: asked } = configOf(options.flags);
  const config = configForSession(asked, options.session);
  const message = options.print === true ? await readAll(process.stdin) : options.print;
  const refusal = message === undefined ? undefined : tooLong(message);
  if (refusal) throw refusal;
  if (message?.trim() === "") throw new UsageError("The message is empty", { hint: 'modal-sb -p "what to do"' });
  using ending = new Ending(output);
  await using provider = await openProvider(config, environment);
  const name = options.session ?? freshSessionName(config.settings.stateFolder, new Date());
  const leaving = { provider, name, output, isAsked: options.detach };
  if (options.detach) refuseToLeave(provider);
  await using session = await openConfiguredSession({ config, environment, provider, name, note: output.note });
  if (options.detach && message !== undefined) {
    const begun = beginTurn(session, message, output, options.format);
    const early = await Promise.race([untilInterrupted(session, begun, true), rejectionOf(stop)]);
    if (early !== undefined) {
      ending.begin();
      return early;
    }
    await leave(session, leaving);
    return exitCodes.success;
  }
  let exitCode: number;
  try {
    exitCode = await converse(session, { message, format: options.format }, output, stop);
  } catch (error) {
    if (options.detach) await leaveOnHangUp(session, stop);
    throw error;
  } finally {
    ending.begin();
  }
  if (message === undefined && (await isToBeLeft(leaving))) await leave(session, leaving);
  else if (options.session === undefined) output.note(output.dim(`To continue: modal-sb --session ${name}`));
  return exitCode;
}

/** Resolves when the agent works on the message; with an exit code, and the reason shown, when the turn ended before that. */
export async function beginTurn(
  session: Session,
  message: string,
  output: Output,
  format: ChatOptions["format"],
): Promise<number | undefined> {
  const turnId = randomUUID();
  const begun = Promise.withResolvers<undefined>();
  const unsubscribe = session.subscribe((event) => {
    if (event.type === "turn_started" && event.turnId === turnId) begun.resolve(undefined);
  });
  const end = await Promise.race([begun.promise, session.runTurn(message, turnId)]);
  unsubscribe();
  if (!end) return undefined;
  await whyNotReady(session, end);
  displayFor(output, format, false).take(end);
  return exitCodeOf(end, false, output);
}

/** Rejects when the turn ended because the session cannot start: the start's own error says best why. */
async function whyNotReady(session: Session, end: EndTurn): Promise<void> {
  if (end.result === "error") await session.ready;
}

/** The exit code of a turn; a hint is written. */
function exitCodeOf(end: EndTurn, sandboxLost: boolean, output: Output): number {
  const { exitCode, hint } = outcomeOf(end, sandboxLost);
  if (hint !== undefined) output.note(`hint: ${hint}`);
  return exitCode;
}

export function configOf(flags: ChatOptions["flags"]): { config: Config; environment: NodeJS.ProcessEnv } {
  const sources = hostSources(flags);
  return { config: loadConfig(sources), environment: sources.environment as NodeJS.ProcessEnv };
}

/** One turn when there is a message, else turns until the user or the program has no more. */
export async function converse(
  session: Session,
  { message, format }: { message: string | undefined; format: ChatOptions["format"] },
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  const isRepl = message === undefined && output.isTerminal && format === "text";
  const display = displayFor(output, format, message === undefined);
  const tellProblems = problemTeller(output);
  let sandboxLost = false;
  let hasStarted = false;
  void session.ready.then(
    () => {
      hasStarted = true;
    },
    () => {},
  );
  const unsubscribe = session.subscribe((event: SessionEvent) => {
    if (event.type === "host_notice" && ["sandbox_lost", "sandbox_failed"].includes(event.kind)) sandboxLost = true;
    if (event.type === "metrics" && format === "text") tellProblems(event);
    // a session that cannot start says why once, as the error of the command
    if (event.type === "END_TURN" && event.error && sandboxLost && !hasStarted && format === "text") return;
    display.take(event);
  });
  const runTurn = async (text: string) => {
    sandboxLost = false;
    hasRun = true;
    const end = await session.runTurn(text);
    if (!hasStarted && message !== undefined) await whyNotReady(session, end);
    display.endTurn();
    return exitCodeOf(end, sandboxLost, output);
  };
  // what a process before this one had asked for comes to its end first
  const inherited = session.inheritedTurn()?.then((end) => {
    display.endTurn();
    return exitCodeOf(end, sandboxLost, output);
  });
  let hasRun = false;
  const statusLine = async () => {
    // before the first turn nobody waits for the session's start
    const spending = hasRun ? await session.spending() : undefined;
    const lines = [costLine(spending), syncLine(session.metrics(), Date.now())].filter((line) => line !== undefined);
    return lines.length === 0 ? undefined : lines.join("\n");
  };
  const work = isRepl
    ? runRepl(session, output, { runTurn, statusLine, inherited })
    : unattended(session, { message, runTurn, inherited });
  work.catch(() => {});
  try {
    return await Promise.race([work, rejectionOf(stop)]);
  } finally {
    unsubscribe();
  }
}

async function unattended(
  session: Session,
  {
    message,
    runTurn,
    inherited,
  }: {
    message: string | undefined;
    runTurn: (text: string) => Promise<number>;
    inherited: Promise<number> | undefined;
  },
): Promise<number> {
  const lines = async () => {
    const before = (await inherited) ?? exitCodes.success;
    return (await runLines(process.stdin, runTurn)) || before;
  };
  const failed = session.ready.then(() => new Promise<never>(() => {}));
  const turns = message === undefined ? lines() : runTurn(message);
  return await untilInterrupted(session, Promise.race([turns, failed]), message !== undefined);
}

/** `isOneTurn`: the first Ctrl-C ends the turn, which ends the work; else it leaves, as the second one does. */
async function untilInterrupted<Result>(
  session: Session,
  work: Promise<Result>,
  isOneTurn: boolean,
): Promise<Result | number> {
  let interrupts = 0;
  const left = Promise.withResolvers<number>();
  const onInterrupt = () => {
    interrupts += 1;
    if (interrupts === 1 && isOneTurn) session.interrupt();
    else left.resolve(exitCodes.interrupted);
  };
  process.on("SIGINT", onInterrupt);
  try {
    return await Promise.race([work, left.promise]);
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}

function displayFor(output: Output, format: ChatOptions["format"], manyTurns: boolean): Display {
  if (format === "stream-json") return jsonDisplay(output);
  return output.isTerminal ? terminalDisplay(output) : pipeDisplay(output, manyTurns);
}

function rejectionOf(stop: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (stop.aborted) reject(stop.reason);
    stop.addEventListener("abort", () => reject(stop.reason), { once: true });
  });
}

/** Reads stdin to its end, or until it is certainly too long for a message. */
async function readAll(input: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of input) {
    chunks.push(chunk as Buffer);
    bytes += chunk.length;
    if (bytes > maxMessageBytes) break;
  }
  return Buffer.concat(chunks).toString("utf8");
}
