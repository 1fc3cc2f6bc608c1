/** A conversation in lines with a unix socket inside a sandbox, over an exec. */
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

export interface LineLink {
  /** Writes one message; lines to a link that has ended are dropped. */
  send(message: unknown): void;
  /** resolves when the other side is gone */
  readonly ended: Promise<void>;
  close(): void;
}

/** Connects to `socketPath` in the sandbox; `onLine` gets each line of at most `maxLineBytes`, as it comes. */
export async function openLineLink(
  sandbox: Sandbox,
  socketPath: string,
  maxLineBytes: number,
  onLine: (line: Line) => void,
): Promise<LineLink> {
  const target = `UNIX-CONNECT:${socketPath},retry=${connectRetries},interval=${retrySeconds}`;
  const process: SandboxProcess = await sandbox.exec([
    ...["/usr/bin/socat", "-b", "65536", "-t", "1", "-T", String(silenceSeconds)],
    ...["-", target],
  ]);
  const lines = new LineSplitter(maxLineBytes);
  process.stdout.on("data", (chunk: Buffer) => {
    for (const line of lines.push(chunk)) onLine(line);
  });
  // the agent could write here without end; its words are of no use to the host
  process.stderr.resume();
  const ping = setInterval(() => process.stdin.write("\n"), pingMs);
  ping.unref();
  void process.exited.then(() => clearInterval(ping));
  return {
    send: (message) => {
      process.stdin.write(`${JSON.stringify(message)}\n`);
    },
    ended: process.exited.then(() => {}),
    close: () => process.kill("SIGTERM"),
  };
}
