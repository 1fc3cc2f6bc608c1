/** From the wish for a sandbox to one that runs: GPUs in turn, words while it takes long, and nothing left when it fails. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Sandbox as SdkSandbox } from "modal";
import { BusyError, ModalSbError, messageOf, SandboxError } from "../../errors.ts";
import type { CreateOptions } from "../provider.ts";
import { underContext, within } from "./calls.ts";
import { grpcStatus, isNamed, isNotFound, modalError, statusOf, wordsOf } from "./modal-error.ts";
import { terminateById } from "./modal-sandbox.ts";
import type { Account } from "./sdk.ts";

const answerMs = 60_000;
const progressMs = 15_000;
/** before Modal is asked again, when it refused every kind at once */
const firstPauseMs = 10_000;
const longestPauseMs = 120_000;
/** Modal's words when no machine is to be had; others are about the sandbox itself */
const noCapacity = /capacity|no (?:available )?(?:machine|worker|gpu)|resource.?exhausted|unavailable/i;
/** Modal frees the name of a sandbox that was given up only when that has ended */
const nameFreeMs = 30_000;
const cleanUpMs = 90_000;
/** states after which it may or may not have been made */
const uncertain: readonly (number | undefined)[] = [
  grpcStatus.unavailable,
  grpcStatus.deadlineExceeded,
  grpcStatus.cancelled,
  grpcStatus.unknown,
  grpcStatus.internal,
];

export interface Wish {
  /** for the user */
  name: string;
  /** at Modal */
  modalName: string;
  /** in order of preference; empty: none is wanted */
  gpus: readonly string[];
  maxWaitMs: number;
  /** Hears that an attempt has cost nothing: there was no machine for it. */
  onNoMachine(): void;
  /** Writes down the intent, and asks Modal; once for each attempt. */
  attempt(gpu: string | undefined): { creation: string; made: Promise<SdkSandbox> };
}

/** Throws `signal`'s reason, a BusyError or a SandboxError; then nothing of it runs. */
export async function createAtModal(
  account: Account,
  wish: Wish,
  { signal, onProgress }: CreateOptions,
): Promise<SdkSandbox> {
  const startedAt = Date.now();
  const leftMs = () => wish.maxWaitMs - (Date.now() - startedAt);
  const choices = wish.gpus.length > 0 ? wish.gpus : [undefined];
  let last: unknown;
  for (let pauseMs = firstPauseMs; leftMs() > 0; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
    for (const [index, gpu] of choices.entries()) {
      if (leftMs() <= 0) break;
      const shareMs = leftMs() / (choices.length - index);
      const words = gpu === undefined ? undefined : waitingWords(gpu, choices[index + 1]);
      const isFirst = last === undefined;
      try {
        return await oneAttempt(account, wish, gpu, { signal, shareMs, onProgress, words, isFirst });
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof NoMachine)) throw error;
        last = error;
        wish.onNoMachine();
      }
    }
    if (leftMs() <= 0) break;
    const waitMs = Math.min(pauseMs, leftMs());
    onProgress?.(`no machine with ${listOf(wish.gpus)} is free; asking again in ${durationWords(waitMs)}`);
    await sleep(waitMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
  }
  throw noneInTime(wish, last);
}

function noneInTime({ gpus, name, maxWaitMs }: Wish, last: unknown): SandboxError {
  const minutes = Math.max(1, Math.round(maxWaitMs / 60_000));
  const what =
    gpus.length > 0 ? `There was no GPU of ${gpus.join(", ")}` : `Modal had no machine for the sandbox "${name}"`;
  return new SandboxError(`${what} within ${minutes} min`, {
    hint: "name more kinds (--gpu H100,A100-80GB,A10), wait longer (--max-wait), or name no region",
    cause: last,
  });
}

function listOf(gpus: readonly string[]): string {
  return gpus.length > 0 ? gpus.join(" or ") : "enough cores";
}

/** No machine was free in time: another kind may be, or one later. */
class NoMachine extends Error {}

interface Attempt {
  signal: AbortSignal | undefined;
  shareMs: number;
  onProgress: CreateOptions["onProgress"];
  words: ((ms: number) => string) | undefined;
  /** nothing of this wish can have the name still */
  isFirst: boolean;
}

async function oneAttempt(
  account: Account,
  wish: Wish,
  gpu: string | undefined,
  { signal, shareMs, onProgress, words, isFirst }: Attempt,
): Promise<SdkSandbox> {
  const startedAt = Date.now();
  const timer = setInterval(() => words && onProgress?.(words(Date.now() - startedAt)), progressMs).unref();
  const giveUp = AbortSignal.any([AbortSignal.timeout(Math.ceil(shareMs)), ...(signal ? [signal] : [])]);
  try {
    for (;;) {
      try {
        return await attemptUntil(account, wish, gpu, giveUp);
      } catch (error) {
        // the one that was tried before may be on its way out still
        const isOwnBefore = !isFirst && Date.now() - startedAt < nameFreeMs;
        if (!(error instanceof BusyError) || !isOwnBefore || giveUp.aborted) throw error;
        await sleep(500);
      }
    }
  } finally {
    clearInterval(timer);
  }
}

/** One call of create. When `giveUp` fires first, whatever it has made or will make is ended before this rejects. */
async function attemptUntil(
  account: Account,
  wish: Wish,
  gpu: string | undefined,
  giveUp: AbortSignal,
): Promise<SdkSandbox> {
  let id: string | undefined;
  const onAnswer = (method: string, answer: unknown) => {
    if (method === "SandboxCreate" || method === "SandboxCreateV2") id = (answer as { sandboxId: string }).sandboxId;
  };
  const { creation, made } = await underContext({ signal: giveUp, onAnswer }, async () => wish.attempt(gpu));
  const aborted = new Promise<never>((_resolve, reject) => {
    const give = () => reject(new NoMachine("it was given up"));
    if (giveUp.aborted) give();
    else giveUp.addEventListener("abort", give, { once: true });
  });
  aborted.catch(() => {});
  try {
    return await Promise.race([made, aborted]);
  } catch (error) {
    if (giveUp.aborted) {
      const ending = endLate(account, wish, made, creation, () => id);
      ending.catch(() => {});
      await Promise.race([ending, sleep(cleanUpMs, undefined, { ref: false })]);
      throw new NoMachine("it was given up", { cause: error });
    }
    throw await failure(account, wish, creation, error);
  }
}

/** Ends what an abandoned call of create has made, or makes yet. */
async function endLate(
  account: Account,
  wish: Wish,
  made: Promise<SdkSandbox>,
  creation: string,
  knownId: () => string | undefined,
): Promise<void> {
  const early = knownId();
  if (early !== undefined) await terminateById(account, early).catch(() => {});
  const late = await made.then(
    (sandbox) => sandbox.sandboxId,
    () => undefined,
  );
  const id = late ?? knownId();
  if (id === undefined) await endByName(account, wish.modalName, creation);
  else if (id !== early || late !== undefined) await terminateById(account, id);
}

async function failure(account: Account, wish: Wish, creation: string, error: unknown): Promise<Error> {
  if (error instanceof ModalSbError) return error;
  if (isNamed(error, "AlreadyExistsError") || statusOf(error) === grpcStatus.alreadyExists)
    return new BusyError(`A sandbox named "${wish.name}" is running`, { hint: "modal-sb ls shows it" });
  // the SDK has ended it
  if (isNamed(error, "ResourceExhaustedError")) return new NoMachine(messageOf(error), { cause: error });
  // it has ended by itself before it was placed on a machine
  if (isNamed(error, "ConflictError")) {
    if (noCapacity.test(messageOf(error))) return new NoMachine(messageOf(error), { cause: error });
    return new SandboxError(`The sandbox "${wish.name}" ended before it started: ${wordsOf(error)}`, { cause: error });
  }
  const known = modalError(error, `make the sandbox "${wish.name}"`);
  if (!uncertain.includes(statusOf(error))) return known;
  try {
    await endByName(account, wish.modalName, creation);
    return known;
  } catch {
    return new SandboxError(`${known.message}. Modal may have made it all the same`, {
      hint: "look with `modal-sb ls` when Modal answers again; it idles out in 10 min",
      cause: error,
    });
  }
}

/** Ends the sandbox of that name if it is the one of this very creation. */
async function endByName(account: Account, modalName: string, creation: string): Promise<void> {
  try {
    const sandbox = await within(answerMs, "for a sandbox", () =>
      account.client.sandboxes.fromName(account.appName, modalName),
    );
    const tags = await within(answerMs, "for a sandbox's tags", () => sandbox.getTags());
    if (tags["creation"] === creation) await terminateById(account, sandbox.sandboxId);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

function waitingWords(gpu: string, next: string | undefined): (ms: number) => string {
  const article = /^[AHLR]/.test(gpu) ? "an" : "a";
  return (ms) => `waiting for ${article} ${gpu} for ${durationWords(ms)}${next === undefined ? "" : `; next: ${next}`}`;
}

function durationWords(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
