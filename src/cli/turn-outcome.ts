import { exitCodes } from "../errors.ts";
import type { EndTurn } from "../protocol/messages.ts";
import type { Reason } from "../proxy/refusal.ts";

interface TurnOutcome {
  exitCode: number;
  /** what the user can do about it */
  hint?: string;
}

/** What helps against a refusal by the proxy, where its own words do not say it. */
const hints: Partial<Record<Reason, string>> = {
  budget_exceeded: "the session's budget is used: --budget-usd <usd> raises it, modal-sb usage shows it",
  sandbox_key_refused: "the sandbox's key has ended with its grant: start the session again",
  audit_unwritable: "the disk of the state folder is full or cannot be written to: free some space, then try again",
  upstream_unreachable: "the API cannot be reached: check your network, then try again",
};

/** The exit code of a turn, and a hint; `sandboxLost` when the sandbox died under it. */
export function outcomeOf(end: EndTurn, sandboxLost: boolean): TurnOutcome {
  if (end.result === "success") return { exitCode: exitCodes.success };
  if (end.result === "interrupted") return { exitCode: exitCodes.interrupted };
  if (sandboxLost) return { exitCode: exitCodes.sandbox };
  const { apiStatus = null, reason = null } = end.error ?? {};
  if (reason === "budget_exceeded") return withHint(exitCodes.budget, hints.budget_exceeded);
  if (reason !== null && Object.hasOwn(hints, reason)) return withHint(exitCodes.upstream, hints[reason as Reason]);
  if (apiStatus === null) return { exitCode: exitCodes.agent };
  return withHint(exitCodes.upstream, hintOfStatus(apiStatus));
}

function withHint(exitCode: number, hint: string | undefined): TurnOutcome {
  return hint === undefined ? { exitCode } : { exitCode, hint };
}

function hintOfStatus(status: number): string | undefined {
  if (status === 401 || status === 403) return "the API refused the key that the proxy holds: check it";
  if (status === 429) return "the API's rate limit is reached: try later";
  return status >= 500 ? "the API cannot be reached or is in trouble: try later" : undefined;
}
