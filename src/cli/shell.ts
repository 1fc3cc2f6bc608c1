/**
 * A shell, or one command, in the agent's sandbox. The agent is hostile, and a terminal obeys what it is sent: at a
 * terminal there are lines of plain text both ways and no pseudo-terminal, so that no byte of the sandbox needs to be
 * trusted. Full-screen programs do not work there; to a pipe, bytes go as they are.
 */
import { constants } from "node:os";
import type { Readable } from "node:stream";
import type { Config } from "../config/load.ts";
import { exitCodes } from "../errors.ts";
import type { Provider, Sandbox } from "../sandbox/provider.ts";
import type { Output } from "./output.ts";
import { openAgent } from "./running.ts";
import { ShellOutput, type Target } from "./shell-output.ts";

export interface ShellRequest {
  session: string | undefined;
  /** empty: an interactive shell */
  argv: readonly string[];
}

/** The streams of this process. */
export interface ShellStreams {
  stdin: Readable;
  stdout: Target;
  stderr: Target;
}

/** for a command that is ended to be gone */
const farewellMs = 3000;
/** so many at once end a program that does not listen */
const impatientInterrupts = 3;
const impatienceMs = 2000;

/**
 * Its first line is the number of the process group that Ctrl-C is for; then comes the command. Of a group of its own,
 * because the one that exec makes lies outside the sandbox, where nobody inside could name it.
 */
const groupScript = 'exec setsid --wait /bin/sh -c \'echo $$; exec "$@"\' sh "$@"';

/** bash complains of the missing terminal before it reads its file, and says nothing of it when stderr is not there yet */
const interactiveScript = `exec bash --noediting --rcfile <(echo '
exec 2>&3 3>&-
[ -r ~/.bashrc ] && . ~/.bashrc
PS1="agent:\\w\\$ "') -i 3>&2 2>/dev/null`;

/** Runs until the command or the shell ends; its exit code, 128 and the signal's number when a signal ended it. */
export async function shell(
  { session, argv }: ShellRequest,
  provider: Provider,
  config: Config,
  output: Output,
  stop: AbortSignal,
  streams: ShellStreams = process,
): Promise<number> {
  const sandbox = await openAgent(session, provider, config);
  try {
    if (argv.length === 0 && output.isTerminal) {
      output.note(
        output.dim(
          `a shell in the sandbox of "${sandbox.tags["session"]}": lines only, no full-screen programs; Ctrl-D leaves`,
        ),
      );
    }
    const command = argv.length > 0 ? argv : ["bash", "-c", interactiveScript];
    return await run(sandbox, command, streams, stop);
  } finally {
    await sandbox.release();
  }
}

async function run(
  sandbox: Sandbox,
  argv: readonly string[],
  { stdin, stdout, stderr }: ShellStreams,
  stop: AbortSignal,
): Promise<number> {
  const child = await sandbox.exec(["/bin/sh", "-c", groupScript, "sh", ...argv], {
    env: { ...sizeOf(stdout), TERM: "dumb", NODE_USE_ENV_PROXY: "1" },
  });
  const kill = () => child.kill("SIGKILL");
  const group = Promise.withResolvers<number>();
  const outputs = [new ShellOutput(child.stdout, stdout, group.resolve), new ShellOutput(child.stderr, stderr)];
  const interrupts: number[] = [];
  const abandon = new AbortController();
  const signal = AbortSignal.any([stop, abandon.signal]);
  const interrupt = () => {
    if (abandon.signal.aborted) return;
    interrupts.push(Date.now());
    const [first = 0] = interrupts.slice(-impatientInterrupts);
    if (interrupts.length >= impatientInterrupts && Date.now() - first < impatienceMs) abandon.abort();
    else void group.promise.then((number) => interruptGroup(sandbox, number));
  };
  process.on("SIGINT", interrupt);
  signal.addEventListener("abort", kill, { once: true });
  stdin.pipe(child.stdin);
  try {
    const copied = Promise.all(outputs.map((output) => output.copy(kill)));
    copied.catch(() => {});
    const end = await Promise.race([child.exited, givenUp(signal)]);
    for (const output of outputs) output.sourceEnded();
    stop.throwIfAborted();
    if (end) await copied;
    if (abandon.signal.aborted || !end) return exitCodes.interrupted;
    if (end.signal !== null) return 128 + (constants.signals[end.signal as NodeJS.Signals] ?? 0);
    return end.code ?? exitCodes.sandbox;
  } finally {
    // who presses Ctrl-C three times presses it a fourth time too: that one must not cut the end off
    if (!abandon.signal.aborted) process.off("SIGINT", interrupt);
    signal.removeEventListener("abort", kill);
    stdin.unpipe(child.stdin);
  }
}

/** Some time after `signal` has fired: a provider that does not answer cannot say that the command has ended. */
function givenUp(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    const wait = () => setTimeout(() => resolve(undefined), farewellMs).unref();
    signal.addEventListener("abort", wait, { once: true });
  });
}

/** The command and all that it started, as a terminal would do it. */
async function interruptGroup(sandbox: Sandbox, group: number): Promise<void> {
  const child = await sandbox.exec(["/bin/sh", "-c", `kill -s INT -- -${group}`]).catch(() => undefined);
  child?.stdin.end();
  child?.stdout.resume();
  child?.stderr.resume();
}

function sizeOf({ columns, rows }: Target): Record<string, string> {
  return columns && rows ? { COLUMNS: String(columns), LINES: String(rows) } : {};
}
