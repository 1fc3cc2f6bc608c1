/** A process beside a sandbox's main one, with Node's streams. */
import { randomBytes } from "node:crypto";
import { Readable, Writable } from "node:stream";
import type { ContainerProcess, Sandbox as SdkSandbox } from "modal";
import { SandboxError } from "../../errors.ts";
import type { ExecOptions, SandboxProcess } from "../provider.ts";
import { within } from "./calls.ts";
import { enterPath, killCommand } from "./launcher.ts";
import { modalError } from "./modal-error.ts";

/** Modal's bound on all arguments together, in UTF-16 units */
const maxArguments = 65_536;
const startMs = 60_000;
/** one message to Modal; larger ones are refused somewhere between 2 and 16 MiB */
const maxWriteBytes = 1024 * 1024;
const bufferBytes = 256 * 1024;
/** Modal does not end a process whose host has died, and a hostile agent could make any process last */
const longestExecMs = 8 * 3_600_000;
/** for a signal to be sent */
const shortExecMs = 60_000;
/** what the streams of a sandbox that has ended may take to give what they still hold */
const drainMs = 2000;

type Bytes = ContainerProcess<Uint8Array>;

export async function execInside(
  sandbox: SdkSandbox,
  argv: readonly string[],
  options: ExecOptions,
  ended: Promise<unknown>,
): Promise<SandboxProcess> {
  const id = randomBytes(8).toString("hex");
  const started = await start(sandbox, id, argv, { longestMs: longestExecMs, ...options }, "pipe");
  const stopWaiting = new AbortController();
  let lostOutput = false;
  const onLoss = () => {
    lostOutput = true;
  };
  const stdout = readableOf(started.stdout, ended, onLoss);
  const stderr = readableOf(started.stderr, ended, onLoss);
  const stdin = writableOf(started);
  const exited = Promise.race([
    started._wait(stopWaiting.signal).then(
      (code) => ({ code: lostOutput ? null : code, signal: null }),
      () => ({ code: null, signal: "SIGKILL" }),
    ),
    ended.then(() => ({ code: null, signal: "SIGKILL" })),
  ]);
  let isOver = false;
  void exited.then(() => {
    isOver = true;
    stopWaiting.abort();
    stdin.destroy();
  });
  return {
    stdin,
    stdout,
    stderr,
    exited,
    kill(signal) {
      if (!isOver) void execDetached(sandbox, killCommand(id, signal)).catch(() => {});
    },
  };
}

/** Starts a process that nobody here listens to; it goes on when this process ends. */
export async function execDetached(
  sandbox: SdkSandbox,
  argv: readonly string[],
  longestMs = shortExecMs,
): Promise<void> {
  await start(sandbox, randomBytes(8).toString("hex"), argv, { longestMs }, "ignore");
}

async function start(
  sandbox: SdkSandbox,
  id: string,
  argv: readonly string[],
  { env, workingDirectory, longestMs }: ExecOptions,
  output: "pipe" | "ignore",
): Promise<Bytes> {
  const words = [enterPath, id, ...argv];
  const length = words.reduce((sum, word) => sum + word.length, 0);
  if (length > maxArguments) {
    throw new SandboxError(
      `The arguments have ${length} characters, and a sandbox on Modal takes ${maxArguments} together`,
      { hint: "hand over what is long on standard input" },
    );
  }
  try {
    return await within(startMs, "to start a process in the sandbox", () =>
      sandbox.exec(words, {
        mode: "binary",
        ...{ stdout: output, stderr: output },
        ...(workingDirectory !== undefined && { workdir: workingDirectory }),
        ...(env && { env: { ...env } }),
        // a whole number of seconds is what Modal takes
        ...(longestMs !== undefined && { timeoutMs: Math.ceil(longestMs / 1000) * 1000 }),
      }),
    );
  } catch (error) {
    throw modalError(error, "start a process in the sandbox");
  }
}

/** Ends when the process's output does, or soon after its sandbox; `onLoss` hears when that was not all. */
function readableOf(stream: Bytes["stdout"], ended: Promise<unknown>, onLoss: () => void): Readable {
  const reader = (stream as ReadableStream<Uint8Array>).getReader();
  const readable = new Readable({
    highWaterMark: bufferBytes,
    async read() {
      try {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          // an empty piece would not wake whoever waits for one
          if (value.length === 0) continue;
          this.push(value);
          return;
        }
      } catch {
        onLoss();
      }
      this.push(null);
    },
    destroy(error, done) {
      reader.cancel().catch(() => {});
      done(error);
    },
  });
  void ended.then(() => {
    const timer = setTimeout(() => void reader.cancel().catch(() => {}), drainMs).unref();
    readable.once("close", () => clearTimeout(timer));
  });
  return readable;
}

/** Small writes that wait for each other go together. Writing to a process that has ended is no error that ends anything. */
function writableOf(started: Bytes): Writable {
  const writer = (started.stdin as WritableStream<Uint8Array>).getWriter();
  writer.closed.catch(() => {});
  const send = async (bytes: Uint8Array) => {
    for (let start = 0; start < bytes.length; start += maxWriteBytes)
      await writer.write(bytes.subarray(start, start + maxWriteBytes));
  };
  const writable = new Writable({
    highWaterMark: bufferBytes,
    write: (chunk: Buffer, _encoding, done) => void send(chunk).then(() => done(), done),
    writev: (chunks, done) =>
      void send(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer))).then(() => done(), done),
    final: (done) => void writer.close().then(() => done(), done),
  });
  writable.on("error", () => {});
  return writable;
}
