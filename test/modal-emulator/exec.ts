/** One process that a client started in a sandbox. */

import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import type { Readable } from "node:stream";
import type { Exec } from "./container.ts";
import { OutputLog } from "./output-log.ts";

export type ExitStatus = { code: number } | { signal: number };

export class RunningExec {
  readonly output = [new OutputLog(), new OutputLog()] as const;
  readonly stdin: StdinByOffset;
  readonly exited: Promise<ExitStatus>;
  status: ExitStatus | undefined;

  constructor(exec: Exec, kept: { stdout: boolean; stderr: boolean; timeoutSecs?: number }) {
    const { process } = exec;
    this.stdin = new StdinByOffset(process);
    keep(process.stdout, this.output[0], kept.stdout);
    keep(process.stderr, this.output[1], kept.stderr);
    const timer = kept.timeoutSecs ? setTimeout(() => void exec.kill(), kept.timeoutSecs * 1000) : undefined;
    this.exited = once(process, "exit").then(([code, signal]: unknown[]) => {
      clearTimeout(timer);
      this.status = statusOf(code as number | null, signal as NodeJS.Signals | null);
      return this.status;
    });
  }
}

function statusOf(code: number | null, signal: NodeJS.Signals | null): ExitStatus {
  return signal ? { signal: constants.signals[signal] } : { code: code ?? 0 };
}

/** As a pipe holds it: a process whose output nobody reads waits. */
const heldBytes = 64 * 1024;

function keep(stream: Readable, log: OutputLog, wanted: boolean): void {
  stream.on("data", (data: Buffer) => {
    if (!wanted) return;
    log.append(data);
    if (log.unread < heldBytes) return;
    stream.pause();
    void log.readOn().then(() => stream.resume());
  });
  stream.on("close", () => log.end());
}

/** Bytes arrive with the offset at which they belong; what came before is not written again. */
export class StdinByOffset {
  readonly #process: ChildProcessWithoutNullStreams;
  written = 0;
  closed = false;

  constructor(process: ChildProcessWithoutNullStreams) {
    this.#process = process;
  }

  /** False when there is a gap before `offset`, or the process has ended. */
  write(offset: number, data: Buffer, eof: boolean): boolean {
    if (offset > this.written) return false;
    const fresh = data.subarray(Math.min(data.length, this.written - offset));
    if (fresh.length > 0 && (this.closed || this.#process.exitCode !== null)) return false;
    if (fresh.length > 0) this.#process.stdin.write(fresh);
    this.written += fresh.length;
    if (eof && !this.closed) {
      this.closed = true;
      this.#process.stdin.end();
    }
    return true;
  }
}
