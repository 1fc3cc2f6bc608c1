/** What an answer is charged: what it says it used, and never nothing for what was sent and broken off. */
import { noUsage, type Reservation, type Usage } from "./cost.ts";
import type { Outcome } from "./forward.ts";
import type { UsageMeter } from "./usage-meter.ts";

/** Endings without any use: the API was not reached, or answered with an error. */
function wasFree({ status, reason }: Outcome): boolean {
  return reason === "upstream_unreachable" || status >= 400;
}

/**
 * The usage to charge. An answer that was broken off, or did not say what it used, counts what passed, and its input as
 * it was estimated at least.
 */
export function chargedUsage(outcome: Outcome, meter: UsageMeter | undefined, reservation: Reservation): Usage {
  if (wasFree(outcome)) return noUsage;
  const known = meter?.known ?? noUsage;
  if (meter?.isFinal) return known;
  return withInput(known, reservation.inputTokens);
}

/** The same usage with at least so much input; what is missing counts as plain input. */
export function withInput(usage: Usage, inputTokens: number): Usage {
  const missing = inputTokens - usage.inputTokens - usage.cacheReadTokens - usage.cacheWriteTokens;
  return missing > 0 ? { ...usage, inputTokens: usage.inputTokens + missing } : usage;
}
