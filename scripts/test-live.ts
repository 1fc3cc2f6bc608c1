/**
 * `npm run test:live`: asks the real cloud of Modal what the emulator cannot know, for less than a dollar. Arguments go to node's
 * test runner. Without credentials it says so and ends well.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, rmSync } from "node:fs";
import { exitCodes, ModalSbError, messageOf } from "../src/errors.ts";
import type { Account } from "../src/sandbox/modal/sdk.ts";
import { isEmulated, openLiveAccount, whyNoAccount } from "../test/live/account.ts";
import { limitUsd, spentUsd } from "../test/live/budget.ts";
import { questions } from "../test/live/questions.ts";
import { folderVariable, RunFolder } from "../test/live/run-folder.ts";
import { deleteVolumes, endSandboxes } from "../test/live/sweep.ts";

const testTimeoutMs = 900_000;
/** for the test files to end when the run is interrupted */
const graceMs = 3000;

process.exit(await main().catch(failed));

/** The exit code. */
async function main(): Promise<number> {
  const reason = await whyNoAccount();
  if (reason !== undefined) {
    console.log(`The live suite was not run: ${reason}`);
    return exitCodes.success;
  }
  const limit = limitUsd(process.env);
  const account = await openLiveAccount();
  await sweepBefore(account);
  const folder = RunFolder.create(account.client.profile.serverUrl);
  const { code, isInterrupted } = await runTests(folder);
  const left = await sweepAfter(account, folder);
  report(account, folder, limit);
  for (const words of left) console.error(words);
  account.client.close();
  if (left.length === 0) rmSync(folder.path, { recursive: true });
  if (isInterrupted) return exitCodes.interrupted;
  return left.length > 0 ? exitCodes.sandbox : code;
}

function failed(error: unknown): number {
  const hint = error instanceof ModalSbError && error.hint !== undefined ? `; ${error.hint}` : "";
  console.error(`The live suite could not run: ${messageOf(error)}${hint}`);
  return exitCodes.sandbox;
}

async function sweepBefore(account: Account): Promise<void> {
  for (const abandoned of RunFolder.abandoned(account.client.profile.serverUrl)) {
    const failures = await deleteVolumes(account, abandoned);
    for (const words of failures) console.error(words);
    if (failures.length === 0) rmSync(abandoned.path, { recursive: true });
  }
  const ended = await endSandboxes(account);
  if (ended.length > 0) console.log(`ended what an earlier run had left: ${ended.join(", ")}`);
}

/** The words of what could not be cleaned up. */
async function sweepAfter(account: Account, folder: RunFolder): Promise<string[]> {
  const failures: string[] = [];
  try {
    const ended = await endSandboxes(account);
    if (ended.length > 0) console.log(`ended what was still running: ${ended.join(", ")}`);
  } catch (error) {
    failures.push(`the sweep failed, look at modal.com/apps: ${messageOf(error)}`);
  }
  return [...failures, ...(await deleteVolumes(account, folder))];
}

/** One file after the other, in a process group of its own: an interruption ends all of it, and then this process sweeps. */
async function runTests(folder: RunFolder): Promise<{ code: number; isInterrupted: boolean }> {
  const files = globSync("test/live/*.live.ts").sort();
  const flags = ["--test", "--test-concurrency=1", `--test-timeout=${testTimeoutMs}`, ...process.argv.slice(2)];
  const child = spawn(process.execPath, [...flags, ...files], {
    stdio: ["ignore", "inherit", "inherit"],
    detached: true,
    env: { ...process.env, [folderVariable]: folder.path },
  });
  let isInterrupted = false;
  const stop = () => {
    if (isInterrupted) return;
    isInterrupted = true;
    console.error("interrupted: ending what runs at Modal");
    endGroup(child);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
  const [code] = (await once(child, "exit")) as [number | null];
  // what a test that ran out of time left, such as a session
  signalGroup(child, "SIGKILL");
  return { code: code ?? 1, isInterrupted };
}

function endGroup(child: ChildProcess): void {
  signalGroup(child, "SIGTERM");
  setTimeout(() => signalGroup(child, "SIGKILL"), graceMs).unref();
}

function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // it has ended
  }
}

function report(account: Account, folder: RunFolder, limit: number): void {
  const answers = folder.answers();
  console.log(isEmulated(account) ? "\nAnswers of an emulator, which are no answers:" : "\nAnswers:");
  for (const { number } of questions) {
    const lines = answers.filter((answer) => answer.number === number);
    if (lines.length === 0) console.log(`answer ${number}: none: it was not asked`);
    for (const { text } of lines) console.log(`answer ${number}: ${text}`);
  }
  const spent = spentUsd(folder);
  console.log(
    `booked: $${spent.toFixed(4)} of $${limit.toFixed(2)}, at list price and as if each had lived to its end`,
  );
}
