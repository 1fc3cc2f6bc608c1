/** Our program in the sandbox, over an exec. What it says is hostile: only frames come out of here, or an error in words. */
import { setTimeout as delay } from "node:timers/promises";
import { SandboxError } from "../errors.ts";
import type { Sandbox, SandboxProcess } from "../sandbox/provider.ts";
import { sanitizeText } from "../sanitize.ts";
import { nodePath, runtimeModule } from "../session/runtime-files.ts";
import { type Frame, FrameReader, FrameWriter } from "./inside/frames.ts";
import { type FaultCode, TransferFault } from "./inside/transfer-fault.ts";

/** A fault that the sandbox has told of. */
export class ReportedFault extends TransferFault {}

/** the program says something every 5 s, whatever it does */
const defaultSilenceMs = 60_000;
const aliveMs = 5000;
/** from the end of the program's output to its own, which may be withheld */
const exitMs = 2000;
const stderrBytes = 2048;

export class FarSide implements Disposable {
  readonly out: FrameWriter;
  readonly #process: SandboxProcess;
  readonly #signal: AbortSignal | undefined;
  readonly #pulse: NodeJS.Timeout;
  readonly #listening: NodeJS.Timeout;
  /** since when nothing has come; the time in which the host itself is busy does not count */
  #waitingSince = performance.now();
  #stopped: unknown;
  #stderr = Buffer.alloc(0);

  private constructor(process: SandboxProcess, signal: AbortSignal | undefined, silenceMs: number) {
    this.#process = process;
    this.#signal = signal;
    this.out = new FrameWriter(process.stdin);
    process.stderr.on("data", (chunk: Buffer) => {
      this.#stderr = Buffer.concat([this.#stderr, chunk]).subarray(-stderrBytes);
    });
    this.#pulse = setInterval(() => this.out.post({ t: "alive" }), aliveMs);
    this.#listening = setInterval(() => {
      if (performance.now() - this.#waitingSince > silenceMs) this.#stop(silent(silenceMs));
    }, silenceMs / 10);
    signal?.addEventListener("abort", this.#onAbort);
    if (signal?.aborted) this.#onAbort();
  }

  /** `silenceMs`: for how long the program may say nothing. */
  static async open(sandbox: Sandbox, signal: AbortSignal | undefined, silenceMs = defaultSilenceMs): Promise<FarSide> {
    signal?.throwIfAborted();
    return new FarSide(await sandbox.exec([nodePath, runtimeModule("transfer/inside/main")]), signal, silenceMs);
  }

  /**
   * Ends when the program does. Throws a SandboxError when it is silent, a ReportedFault when it says that it cannot go on,
   * or the signal's reason.
   */
  async *frames(): AsyncGenerator<Frame> {
    const reader = new FrameReader();
    try {
      for await (const chunk of this.#process.stdout as AsyncIterable<Buffer>) {
        // while a chunk is worked on, nobody waits
        this.#waitingSince = Number.POSITIVE_INFINITY;
        for (const frame of reader.push(chunk)) {
          if (this.#stopped) break;
          if ("message" in frame && frame.message.t === "alive") continue;
          if ("message" in frame && frame.message.t === "fault") {
            throw new ReportedFault(frame.message.code as FaultCode, frame.message.detail);
          }
          yield frame;
        }
        this.#waitingSince = performance.now();
      }
    } catch (error) {
      throw this.#stopped ?? error;
    }
    if (this.#stopped) throw this.#stopped;
  }

  /** Why the program has ended before it was done. */
  async ended(): Promise<SandboxError> {
    const end = await Promise.race([this.#process.exited, delay(exitMs)]);
    const words = sanitizeText(this.#stderr.toString("utf8")).trim().split("\n").at(-1);
    const how = !end ? "its output" : end.signal === null ? `with code ${end.code}` : `by ${end.signal}`;
    return new SandboxError(`The transfer's program in the sandbox ended ${how}${words ? `: ${words}` : ""}`, {
      hint: "run the same command again: it goes on where it was",
    });
  }

  [Symbol.dispose](): void {
    clearInterval(this.#pulse);
    clearInterval(this.#listening);
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#process.kill("SIGKILL");
    for (const stream of [this.#process.stdin, this.#process.stdout, this.#process.stderr]) {
      // what was on its way is of no interest
      stream.on("error", () => {});
      stream.destroy();
    }
  }

  /** Ends the frames with this error. */
  readonly #stop = (reason: unknown): void => {
    this.#stopped ??= reason;
    this.#process.stdout.destroy();
  };

  readonly #onAbort = (): void => this.#stop(this.#signal?.reason);
}

function silent(silenceMs: number): SandboxError {
  return new SandboxError(`The sandbox said nothing for ${silenceMs / 1000} s`, {
    hint: "run the same command again: it goes on where it was",
  });
}
