/** `modal-sb pull` and `modal-sb push`: files between this machine and a running sandbox. */
import { exitCodes } from "../errors.ts";
import type { Sandbox } from "../sandbox/provider.ts";
import type { Secret } from "../secret.ts";
import { pull } from "../transfer/pull.ts";
import { push } from "../transfer/push.ts";
import type { Listed, TransferReport } from "../transfer/report.ts";
import type { Output } from "./output.ts";
import { ProgressLine, sizeWords } from "./transfer-progress.ts";

export interface TransferRequest {
  session: string;
  from: string;
  /** undefined: the working folder on this machine, /app in the sandbox */
  to: string | undefined;
  /** replace files that are there with other content */
  force: boolean;
}

/** the agent's working directory */
const defaultPushTarget = "/app";
/** names that are listed of each kind */
const maxNames = 10;

/** Exit code 0 when all is there, 2 when files with other content were left as they are, 3 when some could not be read. */
export function pullFiles(
  { from, to = ".", force }: TransferRequest,
  sandbox: Sandbox,
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  return transfer(output, stop, (options) => pull({ ...options, sandbox, from, to, overwrite: force }));
}

/** The same, and 7 when a file contains one of `credentials`; then nothing was sent. */
export function pushFiles(
  { from, to = defaultPushTarget, force }: TransferRequest,
  sandbox: Sandbox,
  credentials: ReadonlyMap<string, Secret>,
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  return transfer(output, stop, (options) => push({ ...options, sandbox, from, to, overwrite: force, credentials }));
}

type Running = Pick<Parameters<typeof pull>[0], "signal" | "onProgress">;

async function transfer(
  output: Output,
  stop: AbortSignal,
  run: (options: Running) => Promise<TransferReport>,
): Promise<number> {
  const interrupted = new AbortController();
  const onInterrupt = () => interrupted.abort(new Error("interrupted"));
  process.once("SIGINT", onInterrupt);
  const signal = AbortSignal.any([stop, interrupted.signal]);
  const startedAt = performance.now();
  const line = new ProgressLine(process.stderr);
  try {
    const report = await run({ signal, onProgress: (progress) => line.show(progress) });
    line.clear();
    return tell(report, (performance.now() - startedAt) / 1000, output);
  } catch (error) {
    line.clear();
    if (interrupted.signal.aborted) {
      output.note("interrupted; the same command goes on where it was");
      return exitCodes.interrupted;
    }
    throw error;
  } finally {
    process.removeListener("SIGINT", onInterrupt);
  }
}

function tell(report: TransferReport, seconds: number, output: Output): number {
  list(output, "skipped", report.skipped);
  list(output, "written to while it was read", report.changed);
  list(output, "left as it is, with other content", report.existing);
  list(output, "failed", report.failed);
  const rate = report.bytes > 1e6 && seconds > 0.5 ? `, ${sizeWords(report.bytes / seconds)}/s` : "";
  const words = [
    `${counted(report.files, "file")}, ${sizeWords(report.bytes)} in ${seconds.toFixed(1)} s${rate}`,
    ...(report.same > 0 ? [`${report.same} there already`] : []),
    ...(report.resumed > 0 ? [`${report.resumed} continued`] : []),
    ...(report.skipped.count > 0 ? [`${report.skipped.count} skipped`] : []),
    ...(report.existing.count > 0 ? [`${report.existing.count} left as they are`] : []),
    ...(report.failed.count > 0 ? [`${report.failed.count} failed`] : []),
  ];
  output.note(words.join("; "));
  if (report.existing.count > 0) output.note("hint: --force replaces files that are there with other content");
  if (report.failed.count > 0) return exitCodes.sandbox;
  return report.existing.count > 0 ? exitCodes.usage : exitCodes.success;
}

function list(output: Output, words: string, { count, first }: Listed): void {
  for (const name of first.slice(0, maxNames)) output.note(output.dim(`${words}: ${name}`));
  if (count > maxNames) output.note(output.dim(`${words}: ${count - maxNames} more`));
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
