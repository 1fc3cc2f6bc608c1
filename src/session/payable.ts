/** Whether a session's budget can pay for a request at all: found out before anything is started. */
import { BudgetError } from "../errors.ts";
import { reservationOf, usdOf } from "../proxy/cost.ts";
import { Prices } from "../proxy/prices.ts";
import { spendingOf } from "./account-spending.ts";
import type { SessionOptions } from "./contract.ts";

/** What claude 2.1.330 asks for with an API key when nobody names a model. */
export const usualModel = "claude-opus-5-5";
/** claude's instructions and tools at least, as the proxy estimates them; the first request of a session has more */
export const leastInputTokens = 8000;
/** What every model may write since Claude 4, and before: claude asks for no more. Source: Anthropic's overview of models. */
const leastOutputLimit = { now: 32_000, ofClaude3: 4096 };

/** `auditFolder`: where the proxy's volume lies on this machine; undefined: the proxy alone knows what was spent. */
type Account = { isNew: true } | { isNew: false; auditFolder: string | undefined };

/**
 * Throws a BudgetError when what is left does not pay for what claude asks for with each request: the proxy would refuse
 * the first one. Every estimate is low, so that nobody is refused who could be served.
 */
export function refuseUnpayable(options: SessionOptions, account: Account): void {
  const { name, useLimits = {}, attachOnly = false, instructions } = options;
  // what runs already goes on, and its proxy keeps the account
  if (useLimits.usd === undefined || attachOnly) return;
  // settings among the instructions, or in the folder of an earlier start, can name a model
  const model = options.model ?? (account.isNew && instructions === undefined ? usualModel : undefined);
  const needed = leastRequest(model, options);
  const spent = account.isNew ? 0 : spentOf(name, account.auditFolder);
  const left = Math.max(0, useLimits.usd - spent);
  if (left > 0 && left >= needed) return;
  // what helps for certain, and not the least that could
  const usual = Math.max(needed, leastRequest(model ?? usualModel, options));
  throw new BudgetError(
    `Cannot start the session "${name}": ${amount(left)} of its budget of ${amount(useLimits.usd)} is left, and a request${model ? ` to ${model}` : ""} can cost ${amount(needed)}`,
    {
      hint: `set a larger budget (--budget-usd ${Math.ceil(spent + 2 * usual)}), a cheaper model (--model), or fewer tokens of output (MODAL_SB_MAX_OUTPUT_TOKENS)`,
    },
  );
}

/** The least that the proxy can set aside for a request of a turn, in US dollars. */
function leastRequest(model: string | undefined, { anthropic, prices }: SessionOptions): number {
  const limit = model?.startsWith("claude-3") ? leastOutputLimit.ofClaude3 : leastOutputLimit.now;
  const outputTokens = Math.min(anthropic.maxOutputTokens ?? 0, limit);
  const request = { model: "", inputTokens: leastInputTokens, outputTokens, webSearches: 0, cache: "5m" as const };
  return usdOf(new Prices(prices).leastOf(model, (price) => reservationOf(request, price).nanoUsd));
}

/** Nothing, where the account cannot be read: the proxy says what is wrong with it. */
function spentOf(name: string, auditFolder: string | undefined): number {
  try {
    return spendingOf(name, auditFolder).usd;
  } catch {
    return 0;
  }
}

function amount(usd: number): string {
  return `$${usd.toFixed(usd > 0 && usd < 0.1 ? 4 : 2)}`;
}
