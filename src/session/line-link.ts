/** A conversation in lines with a unix socket inside a sandbox, over an exec. */
import { setTimeout } from "node:timers/promises";
import { type Line, LineSplitter } from "../protocol/json-lines.ts";
import type { Sandbox, SandboxProcess } from "../sandbox/provider.ts";

/** socat waits for the socket this long, in its own retries: the process behind it may still be starting */
const connectRetries = 1200;
const retrySeconds = 0.025;
/**
 * A sign of life, an empty line, is sent so often; without one for so long socat ends. A process in a sandbox far away
 * does not learn of our death otherwise, and would keep the sandbox from being idle.
 */
const pingMs = 60_000;
const silenceSeconds = 300;
/** and whatever is there in its place: the provider ends it, and it is opened again */
const longestMs = 60 * 60_000;

/** how long a sandbox that has ended may need to say so */
const endMs = 3000;
/** between two tries to come back; the sandbox has its own end, when it is not held by anybody */
const shortestRetryMs = 500;
const longestRetryMs = 15_000;
const giveUpMs = 10 * 60_000;
/** a link that held so long was a good one */
const healthyMs = 60_000;

export interface LineLink {
  /** Writes one message; lines to a link that has ended are dropped, and lines to one that is being opened again. */
  send(message: unknown): void;
  /** resolves when the other side is gone for good */
  readonly ended: Promise<void>;
  close(): void;
}

/** A link over a network breaks while both sides live: it is opened again. */
export interface Reopening {
  /** it is lost, and when `isBack` the other side has spoken again */
  onChange(isBack: boolean): void;
  /** says what the other side must hear first, each time but the first */
  greet(send: (message: unknown) => void): void;
}

/**
 * Connects to `socketPath` in the sandbox; `onLine` gets each line of at most `maxLineBytes`, as it comes. With
 * `reopening` a link that breaks under a living sandbox is opened again, until nothing was heard for some minutes.
 */
export async function openLineLink(
  sandbox: Sandbox,
  socketPath: string,
  maxLineBytes: number,
  onLine: (line: Line) => void,
  reopening?: Reopening,
): Promise<LineLink> {
  let lostAt: number | undefined;
  const take = (line: Line) => {
    // a process that was started is not yet somebody who answers
    if (lostAt !== undefined) reopening?.onChange(true);
    lostAt = undefined;
    onLine(line);
  };
  const open = () => connect(sandbox, socketPath, maxLineBytes, take);
  let current = await open();
  let isClosed = false;
  const send = (message: unknown) => current.send(message);
  const keep = async ({ onChange, greet }: Reopening) => {
    let retryMs = shortestRetryMs;
    for (let openedAt = Date.now(); ; openedAt = Date.now()) {
      await current.ended;
      if (isClosed || (await hasEnded(sandbox))) return;
      if (lostAt === undefined) onChange(false);
      lostAt ??= Date.now();
      if (Date.now() - lostAt > giveUpMs) return;
      // what breaks again and again is opened ever more seldom
      retryMs = Date.now() - openedAt > healthyMs ? shortestRetryMs : Math.min(longestRetryMs, 2 * retryMs);
      await setTimeout(retryMs, undefined, { ref: false });
      if (isClosed) return;
      current = await open().catch(() => current);
      greet(send);
    }
  };
  return {
    send,
    ended: reopening ? keep(reopening) : current.ended,
    close: () => {
      isClosed = true;
      current.close();
    },
  };
}

async function hasEnded(sandbox: Sandbox): Promise<boolean> {
  return await Promise.race([sandbox.exited.then(() => true), setTimeout(endMs, false, { ref: false })]);
}

async function connect(
  sandbox: Sandbox,
  socketPath: string,
  maxLineBytes: number,
  onLine: (line: Line) => void,
): Promise<LineLink> {
  const target = `UNIX-CONNECT:${socketPath},retry=${connectRetries},interval=${retrySeconds}`;
  const socat = ["/usr/bin/socat", "-b", "65536", "-t", "1", "-T", String(silenceSeconds), "-", target];
  const process: SandboxProcess = await sandbox.exec(socat, { longestMs });
  const lines = new LineSplitter(maxLineBytes);
  let isOver = false;
  process.stdout.on("data", (chunk: Buffer) => {
    // the next link gets the same lines
    if (!isOver) for (const line of lines.push(chunk)) onLine(line);
  });
  // the agent could write here without end; its words are of no use to the host
  process.stderr.resume();
  // what cannot be said any more breaks the link as well: the process at the other end may not notice
  const isBroken = new Promise<void>((resolve) => process.stdin.once("error", () => resolve()));
  void isBroken.then(() => {
    isOver = true;
    process.kill("SIGTERM");
  });
  const ping = setInterval(() => process.stdin.write("\n"), pingMs);
  ping.unref();
  void process.exited.then(() => clearInterval(ping));
  return {
    send: (message) => {
      process.stdin.write(`${JSON.stringify(message)}\n`);
    },
    ended: Promise.race([process.exited, isBroken]).then(() => {}),
    close: () => process.kill("SIGTERM"),
  };
}
