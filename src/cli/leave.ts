/** The end of a conversation whose sandboxes can go on without us: what that costs, and the question. */
import { createInterface } from "node:readline/promises";
import type { Provider } from "../sandbox/provider.ts";
import { cannotBeLeft } from "../session/inheritance.ts";
import type { Session } from "../session/session.ts";
import type { Output } from "./output.ts";
import { dollars, spanWords } from "./spans.ts";
import { StoppedBySignal } from "./stopped-by-signal.ts";

export interface Leaving {
  provider: Provider;
  /** the session's */
  name: string;
  output: Output;
  /** `--detach` was given */
  isAsked: boolean;
}

/** Throws a UsageError where sandboxes end with this process. */
export function refuseToLeave(provider: Provider): void {
  if (provider.capabilities.detach) return;
  throw cannotBeLeft(provider);
}

/** Leaves it when the terminal has gone away under it: what was left once is not ended by a closed lid. */
export async function leaveOnHangUp(session: Session, stop: AbortSignal): Promise<void> {
  if (stop.reason instanceof StoppedBySignal && stop.reason.isHangUp) await session.detach();
}

/** Asks a person; a program that did not ask for it has its session stopped. */
export async function isToBeLeft({ provider, name, output, isAsked }: Leaving): Promise<boolean> {
  if (isAsked) return true;
  if (!provider.capabilities.detach || !output.isTerminal) return false;
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const cost = await costWords(provider, name);
    const answer = await reader.question(`Stop the session, or leave it running${cost}? [S]top, [l]eave: `);
    return /^l/i.test(answer.trim());
  } catch {
    // the terminal is gone: nobody will come back by himself
    return false;
  } finally {
    reader.close();
  }
}

/** Leaves it, and says until when and what to do. */
export async function leave(session: Session, { provider, name, output }: Leaving): Promise<void> {
  const cost = await costWords(provider, name);
  const until = await session.detach();
  const span = spanWords(until.getTime() - Date.now());
  output.note(`The session "${name}" goes on without this terminal, for ${span} at most${cost}.`);
  output.note(output.dim(`modal-sb attach ${name}   comes back\nmodal-sb stop ${name}     ends it`));
}

/** ", at $1.20 an hour"; empty when no price is known. */
async function costWords(provider: Provider, session: string): Promise<string> {
  const records = await provider.list({ session }).catch(() => []);
  const usd = records.reduce((sum, { usdPerHour = 0 }) => sum + usdPerHour, 0);
  return usd > 0 ? `, at ${dollars(usd)} an hour` : "";
}
