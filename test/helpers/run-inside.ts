import { constants } from "node:os";
import { text } from "node:stream/consumers";
import type { ExecOptions, Sandbox } from "../../src/sandbox/provider.ts";

export interface Outcome {
  /** 128 and the signal's number, as shells say it, when a signal ended the process */
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program in the sandbox to its end, with `input` on its standard input. */
export async function runInside(
  sandbox: Sandbox,
  argv: string[],
  input = "",
  options: ExecOptions = {},
): Promise<Outcome> {
  const process = await sandbox.exec(argv, options);
  process.stdin.end(input);
  const [stdout, stderr, { code, signal }] = await Promise.all([
    text(process.stdout),
    text(process.stderr),
    process.exited,
  ]);
  return { code: signal === null ? code : 128 + constants.signals[signal as NodeJS.Signals], stdout, stderr };
}

/** The same for a shell script. */
export function shellInside(sandbox: Sandbox, script: string): Promise<Outcome> {
  return runInside(sandbox, ["sh", "-c", script]);
}
