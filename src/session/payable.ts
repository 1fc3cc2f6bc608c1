/** Whether a session's budget can pay for a request at all: found out before anything is started. */
import { BudgetError } from "../errors.ts";
import { costOf, noUsage, usdOf } from "../proxy/cost.ts";
import { Prices } from "../proxy/prices.ts";
import type { Volume } from "../sandbox/provider.ts";
import { spendingOf } from "./account-spending.ts";
import type { SessionOptions } from "./contract.ts";

/** What claude 2.1.330 asks for with an API key when nobody names a model. */
export const usualModel = "claude-opus-5-5";
/** Models before Claude 4 write no more, whatever the limit is; source: Anthropic's overview of models. */
const outputOfOldModels = 4096;
/** claude's instructions and tools at least, as the proxy estimates them; the first request of a session has more */
export const leastInputTokens = 8000;

/**
 * Throws a BudgetError when what is left does not pay for what claude asks for with each request: the proxy would refuse
 * the first one. What is not known counts as nothing, so that nobody is refused who could be served.
 * `audit` is the proxy's volume.
 */
export function refuseUnpayable(options: SessionOptions, audit: Pick<Volume, "hostPath">): void {
  const { name, useLimits = {}, attachOnly = false } = options;
  // what runs already goes on, and its proxy keeps the account
  if (useLimits.usd === undefined || attachOnly) return;
  const spent = spendingOf(name, audit.hostPath).usd;
  const left = Math.max(0, useLimits.usd - spent);
  const { usd: needed, words } = leastRequest(options);
  if (left > 0 && left >= needed) return;
  const budget = amount(useLimits.usd);
  throw new BudgetError(
    spent > 0
      ? `The session "${name}" has used ${amount(spent)} of its budget of ${budget}; what is left does not pay for a request${words}`
      : `A budget of ${budget} does not pay for a request${words}`,
    {
      hint: `--budget-usd ${suggestion(spent + needed)} raises it, or name a cheaper --model; modal-sb usage shows what was spent`,
    },
  );
}

/** What the proxy sets aside for the smallest request of a turn, in US dollars, and why. */
function leastRequest({ model = usualModel, anthropic, prices }: SessionOptions): { usd: number; words: string } {
  const { maxOutputTokens: limit = 0 } = anthropic;
  const outputTokens = model.startsWith("claude-3") ? Math.min(limit, outputOfOldModels) : limit;
  const usage = { ...noUsage, cacheWriteTokens: leastInputTokens, outputTokens };
  const usd = usdOf(new Prices(prices).leastOf(model, (price) => costOf(usage, price)));
  return { usd, words: `: ${model} may use ${amount(usd)} for one of ${outputTokens} tokens` };
}

function amount(usd: number): string {
  return `$${usd.toFixed(usd > 0 && usd < 0.1 ? 4 : 2)}`;
}

/** Some requests more than what is needed for one. */
function suggestion(usd: number): number {
  return Math.max(1, Math.ceil(2 * usd));
}
