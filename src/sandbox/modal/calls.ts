/** What is laid round calls of Modal's SDK: deadlines, the wish to stop, and a look at the messages that it keeps to itself. */
import { AsyncLocalStorage } from "node:async_hooks";
import type { ModalClientParams } from "modal";
import { SandboxError } from "../../errors.ts";

type Middleware = NonNullable<ModalClientParams["grpcMiddleware"]>[number];

export interface CallContext {
  /** ends calls that may be given up: not those that make or end something, whose outcome must be known */
  signal?: AbortSignal | undefined;
  /** each answer, by the name of its method, e.g. "SandboxCreate" */
  onAnswer?: (method: string, answer: unknown) => void;
}

/** calls that are never given up half way */
const uninterrupted = new Set([
  "AuthTokenGet",
  "SandboxCreate",
  "SandboxCreateV2",
  "SandboxTerminate",
  "SandboxTerminateV2",
]);

const contexts = new AsyncLocalStorage<CallContext>();

/** Runs `action`; every call of the control plane that it makes is under `context`. */
export function underContext<Result>(context: CallContext, action: () => Promise<Result>): Promise<Result> {
  return contexts.run(context, action);
}

/** Rejects after `ms` with words that name `what`, e.g. "to end the sandbox"; calls of the control plane end then, too. */
export async function within<Result>(ms: number, what: string, action: () => Promise<Result>): Promise<Result> {
  const deadline = AbortSignal.timeout(ms);
  const signal = AbortSignal.any([
    deadline,
    ...(contexts.getStore()?.signal ? [contexts.getStore()?.signal as AbortSignal] : []),
  ]);
  const work = contexts.run({ ...contexts.getStore(), signal }, action);
  const late = new Promise<never>((_resolve, reject) => {
    const give = () => reject(deadline.aborted ? tooLate(ms, what) : (signal.reason as Error));
    if (signal.aborted) give();
    else signal.addEventListener("abort", give, { once: true });
  });
  late.catch(() => {});
  work.catch(() => {});
  return await Promise.race([work, late]);
}

function tooLate(ms: number, what: string): SandboxError {
  return new SandboxError(`Modal did not answer within ${Math.round(ms / 1000)} s when asked ${what}`, {
    hint: "see https://status.modal.com, then try again",
  });
}

/** To be given to the client. It is asked for each attempt of a call. */
export const callWatcher: Middleware = async function* watch(call, options) {
  const context = contexts.getStore();
  if (!context) return yield* call.next(call.request as never, options);
  const method = call.method.path.slice(call.method.path.lastIndexOf("/") + 1);
  const signals = [options.signal, uninterrupted.has(method) ? undefined : context.signal].filter(
    (signal) => signal !== undefined,
  );
  const watched = { ...options, ...(signals.length > 0 && { signal: AbortSignal.any(signals) }) };
  if (!call.responseStream) {
    const answer = yield* call.next(call.request as never, watched);
    context.onAnswer?.(method, answer);
    return answer;
  }
  for await (const message of call.next(call.request as never, watched)) {
    context.onAnswer?.(method, message);
    yield message;
  }
};
