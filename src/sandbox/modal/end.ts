/** How a sandbox ended, as Modal tells it and as the user shall hear it. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ModalClient } from "modal";
import type { EndReason, SandboxEnd } from "../provider.ts";
import { idleTimeoutMs } from "./resources.ts";
import { isOlderBackend } from "./sandbox-id.ts";

/** Modal answers a wait after so long also when nothing has happened */
const waitSeconds = 10;
const answerMs = 30_000;
const maxRetryMs = 15_000;

/** Modal's numbers of the states in which a sandbox ends; source: GenericStatus in modal_proto/api.proto */
const statuses = {
  success: 1,
  failure: 2,
  terminated: 3,
  timeout: 4,
  initFailure: 5,
  internalFailure: 6,
  idle: 7,
  memory: 8,
};

export interface Result {
  status: number;
  exitcode: number;
  exception: string;
}

/** Its result now; undefined while it runs. Rejects when Modal does not know it or does not answer. */
export async function resultNow(client: ModalClient, sandboxId: string): Promise<Result | undefined> {
  return await wait(client, sandboxId, 0, undefined);
}

/** Waits for its end, however often Modal cannot be reached meanwhile; never resolves once `signal` has fired. */
export async function waitForResult(client: ModalClient, sandboxId: string, signal: AbortSignal): Promise<Result> {
  let retryMs = 500;
  for (;;) {
    if (signal.aborted) return await new Promise<never>(() => {});
    try {
      const result = await wait(client, sandboxId, waitSeconds, signal);
      if (result) return result;
      retryMs = 500;
    } catch {
      // what cannot be asked has not ended
      await sleep(retryMs, undefined, { ref: false });
      retryMs = Math.min(2 * retryMs, maxRetryMs);
    }
  }
}

async function wait(
  client: ModalClient,
  sandboxId: string,
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<Result | undefined> {
  const request = { sandboxId, timeout };
  const options = { timeoutMs: answerMs, ...(signal && { signal }) };
  const { result } = isOlderBackend(sandboxId)
    ? await client.cpClient.sandboxWait(request, options)
    : await client.cpClient.sandboxWaitV2(request, options);
  return result === undefined || result.status === 0 ? undefined : result;
}

export interface EndCircumstances {
  /** this process asked for its end */
  asked: boolean;
  gpu: boolean;
  lifetimeMs: number;
  memoryMiB: number;
}

export function endOf(result: Result, circumstances: EndCircumstances): Omit<SandboxEnd, "outputTail"> {
  const reason = reasonOf(result, circumstances);
  const code = reason === "exited" || reason === "terminated" || reason === "killed" ? codeOf(result) : null;
  return { reason, code, message: wordsOf(reason, code, result, circumstances) };
}

function reasonOf({ status, exitcode, exception }: Result, { asked, gpu }: EndCircumstances): EndReason {
  if (status === statuses.timeout) return "lifetime";
  if (status === statuses.idle) return "idle";
  if (status === statuses.memory || /\bOOM\b|out of memory/i.test(exception)) return "memory";
  if (asked) return "terminated";
  // an agent can kill its own main process, and Modal is not to blame for that
  if (status === statuses.terminated) return gpu ? "preempted" : "killed";
  if (exitcode === 128 + 9) return "killed";
  return "exited";
}

function codeOf({ status, exitcode }: Result): number {
  return status === statuses.terminated ? 128 + 9 : exitcode;
}

function wordsOf(reason: EndReason, code: number | null, { status, exception }: Result, at: EndCircumstances): string {
  const isModals = status === statuses.initFailure || status === statuses.internalFailure;
  const words: Record<EndReason, string> = {
    exited: isModals ? `Modal could not run it: ${exception}` : `its main process ended with code ${code}`,
    killed: "it was ended from elsewhere, or its main process was killed",
    terminated: "it was stopped",
    memory: `it used more memory than its ${at.memoryMiB} MiB`,
    lifetime: `its lifetime of ${Math.round(at.lifetimeMs / 60_000)} min was over`,
    preempted: "Modal took its machine back, as it may with GPUs",
    idle: `no process of the host was in it for ${idleTimeoutMs / 60_000} min`,
  };
  return words[reason];
}
