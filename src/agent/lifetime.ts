/** A turn of its own before the sandbox's certain end, so that the agent saves its work while it can; also when no host is there. */
import { randomBytes, randomUUID } from "node:crypto";

/** before the end, or a quarter of a short lifetime */
const warningMs = 10 * 60_000;
/** setTimeout's longest delay */
const maxTimerMs = 2 ** 31 - 1;

export interface LifetimeWarning {
  /** by its id the host knows that nobody waits for this turn */
  turnId: string;
  nonce: string;
  text: string;
  minutes: number;
}

/** Calls `warn` once, in time; the timer does not keep the process alive. */
export function warnBeforeEnd(lifetimeMs: number, warn: (warning: LifetimeWarning) => void): void {
  const aheadMs = Math.min(warningMs, lifetimeMs / 4);
  const delayMs = lifetimeMs - aheadMs;
  if (delayMs > maxTimerMs) return;
  const minutes = Math.max(1, Math.round(aheadMs / 60_000));
  setTimeout(() => {
    warn({
      turnId: `lifetime-${randomUUID()}`,
      nonce: randomBytes(16).toString("hex"),
      minutes,
      text: `(From modal-sb, not from the user.) This sandbox ends in ${minutes} min, because its lifetime is over. Whatever runs then is killed. The
next message continues this conversation in a new sandbox with the same /data and /app; everything else is gone. Now
make sure that a running training has a checkpoint below /data from which it can resume, note in one file there how to
resume it, and answer with one or two sentences. Start nothing long.`,
    });
  }, delayMs).unref();
}
