import { exitCodes } from "../errors.ts";
import type { EndTurn } from "../protocol/messages.ts";
import { type Reason, reasons, statusOf } from "../proxy/refusal.ts";
import { tooLongHint, type tooLongReason } from "../session/message-size.ts";

interface TurnOutcome {
  exitCode: number;
  /** what the user can do about it */
  hint?: string;
}

/** By the reason of a turn's end, where its own words do not say what helps. */
const outcomes: Partial<Record<string, TurnOutcome>> = {
  message_too_long: { exitCode: exitCodes.usage, hint: tooLongHint },
  budget_exceeded: {
    exitCode: exitCodes.budget,
    hint: "raise the budget (--budget-usd), or let a request use less (MODAL_SB_MAX_OUTPUT_TOKENS)",
  },
  sandbox_key_refused: {
    exitCode: exitCodes.upstream,
    hint: "the sandbox's key has ended with its grant: start the session again",
  },
  audit_unwritable: {
    exitCode: exitCodes.upstream,
    hint: "the disk of the state folder is full or cannot be written to: free some space, then try again",
  },
  upstream_unreachable: {
    exitCode: exitCodes.upstream,
    hint: "the API cannot be reached: check your network, then try again",
  },
} satisfies Partial<Record<Reason | typeof tooLongReason, TurnOutcome>>;

/** The exit code of a turn, and a hint; `sandboxLost` when the sandbox died under it. */
export function outcomeOf(end: EndTurn, sandboxLost: boolean): TurnOutcome {
  if (end.result === "success") return { exitCode: exitCodes.success };
  if (end.result === "interrupted") return { exitCode: exitCodes.interrupted };
  if (sandboxLost) return { exitCode: exitCodes.sandbox };
  const { apiStatus = null, reason = null } = end.error ?? {};
  // the sandbox chooses the reason: it could be the name of a method of every object
  const known = reason !== null && Object.hasOwn(outcomes, reason) ? outcomes[reason] : undefined;
  if (known && isOurs(reason ?? "", apiStatus)) return known;
  if (apiStatus === null) return { exitCode: exitCodes.agent };
  const hint = hintOfStatus(apiStatus);
  return { exitCode: exitCodes.upstream, ...(hint !== undefined && { hint }) };
}

/** An upstream can name a reason of ours too: ours has the status that goes with it. */
function isOurs(reason: string, apiStatus: number | null): boolean {
  const ours = reasons.find((each) => each === reason);
  return apiStatus === (ours ? statusOf(ours, "anthropic") : null);
}

function hintOfStatus(status: number): string | undefined {
  if (status === 401 || status === 403) return "the API refused the key that the proxy holds: check it";
  if (status === 429) return "the API's rate limit is reached: try later";
  return status >= 500 ? "the API cannot be reached or is in trouble: try later" : undefined;
}
