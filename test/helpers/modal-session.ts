/** A conversation in lines with a session on Modal, and what the emulated cloud says is running. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import type { EmulatedSandbox } from "../modal-emulator/emulator.ts";
import { type LineTalk, lineTalk } from "./line-talk.ts";
import type { ModalUser } from "./modal-user.ts";

const longestEndMs = 180_000;

export interface ModalSession extends AsyncDisposable {
  child: ChildProcess;
  talk: LineTalk;
  /** Says a message; what came on stdout for it, without END_TURN. */
  turn(message: string): Promise<string>;
  /** Ends the input; the exit code when the command has ended. */
  leave(): Promise<number | null>;
}

/** Disposal kills the command, which leaves its sandboxes to the emulator's end. */
export function modalSession(
  modal: Pick<ModalUser, "start">,
  argv: readonly string[],
  env: Record<string, string | undefined> = {},
): ModalSession {
  const child = modal.start(argv, { env });
  child.stdin?.on("error", () => {});
  const closed = once(child, "close");
  closed.catch(() => {});
  const talk = lineTalk(child);
  let turns = 0;
  return {
    child,
    talk,
    async turn(message) {
      turns += 1;
      talk.say(message);
      const text = await talk.until("stdout", new RegExp(`(^|[^]*\\n)(END_TURN\\n[^]*){${turns}}$`));
      return text.split(/(?:^|(?<=\n))END_TURN\n/)[turns - 1] ?? "";
    },
    async leave() {
      child.stdin?.end();
      const [code] = (await closed) as [number | null];
      return code;
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await closed;
    },
  };
}

export function runningOf({ emulator }: Pick<ModalUser, "emulator">, session?: string): EmulatedSandbox[] {
  return emulator
    .sandboxes()
    .filter(({ running, tags }) => running && (session === undefined || tags["session"] === session));
}

/** The running sandbox of a session with that role. */
export function sandboxOf(modal: Pick<ModalUser, "emulator">, session: string, role: string): EmulatedSandbox {
  const found = runningOf(modal, session).find(({ tags }) => tags["role"] === role);
  assert.ok(found, `the ${role} of ${session} is running`);
  return found;
}

/** Modal ends what it was told to end after its answer; what nobody has ended fails after a while. */
export async function untilNothingRuns(modal: Pick<ModalUser, "emulator">): Promise<void> {
  const isQuiet = () => runningOf(modal).length === 0;
  await Promise.race([modal.emulator.waitFor(isQuiet), pause(longestEndMs, undefined, { ref: false })]);
  assertNothingRuns(modal);
}

export function assertNothingRuns(modal: Pick<ModalUser, "emulator">, session?: string): void {
  const left = runningOf(modal, session).map(({ id, name, tags }) => `${tags["role"]} ${name} ${id}`);
  assert.deepEqual(left, [], "nothing is left running");
}
