import { exitCodes } from "../errors.ts";
import type { EndTurn } from "../protocol/messages.ts";

/** The exit code of a turn, and what the user can do about it; `sandboxLost` when the sandbox died under it. */
export function outcomeOf(end: EndTurn, sandboxLost: boolean): { exitCode: number; hint?: string } {
  if (end.result === "success") return { exitCode: exitCodes.success };
  if (end.result === "interrupted") return { exitCode: exitCodes.interrupted };
  if (sandboxLost) return { exitCode: exitCodes.sandbox };
  const status = end.error?.apiStatus ?? null;
  if (status === 403 && end.error?.message.includes("modal-sb proxy: ")) {
    const isBudget = /could use up to .* is left/.test(end.error.message);
    const raise = "the session's budget is used: --budget-usd <usd> raises it, modal-sb usage shows it";
    return { exitCode: exitCodes.upstream, ...(isBudget && { hint: raise }) };
  }
  if (status === 401 || status === 403) {
    return { exitCode: exitCodes.upstream, hint: "the API refused the key that the proxy holds: check it" };
  }
  if (status === 429) return { exitCode: exitCodes.upstream, hint: "the API's rate limit is reached: try later" };
  if (status !== null && status >= 500) {
    return { exitCode: exitCodes.upstream, hint: "the API cannot be reached or is in trouble: try later" };
  }
  if (status !== null) return { exitCode: exitCodes.upstream };
  return { exitCode: exitCodes.agent };
}
