/** What a run may cost: list price of what is reserved, for the whole lifetime, before anything is made. */
import { type Reserved, usdPerHour } from "../../src/sandbox/modal/prices.ts";
import type { RunFolder } from "./run-folder.ts";

const maxUsd = 1;

class BudgetError extends Error {
  override readonly name = "BudgetError";
}

/** At most a dollar; `MODAL_SB_LIVE_LIMIT_USD` can only lower it. */
export function limitUsd(environment: Readonly<Record<string, string | undefined>>): number {
  const text = environment["MODAL_SB_LIVE_LIMIT_USD"];
  if (text === undefined || text === "") return maxUsd;
  const wanted = Number(text);
  if (!Number.isFinite(wanted) || wanted < 0) throw new BudgetError(`MODAL_SB_LIVE_LIMIT_USD is no amount: "${text}"`);
  return Math.min(wanted, maxUsd);
}

export function spentUsd(folder: RunFolder): number {
  return folder.charges().reduce((sum, { usd }) => sum + usd, 0);
}

/** Books it, or throws a BudgetError when the run would go beyond its limit. What has no known price is not made. */
export function charge(
  folder: RunFolder,
  limit: number,
  { what, reserved, lifetimeMs }: { what: string; reserved: Reserved; lifetimeMs: number },
): void {
  const perHour = usdPerHour(reserved);
  if (perHour === undefined) throw new BudgetError(`there is no known price of ${reserved.gpu}, so it is not made`);
  const usd = (perHour * lifetimeMs) / 3_600_000;
  const spent = spentUsd(folder);
  if (spent + usd > limit) {
    throw new BudgetError(
      `the budget refuses ${what} for $${usd.toFixed(4)}: $${spent.toFixed(4)} of $${limit.toFixed(2)} are booked`,
    );
  }
  folder.addCharge({ what, usd });
}
