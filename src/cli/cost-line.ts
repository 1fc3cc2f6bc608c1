import type { Spending } from "../session/spending.ts";
import { dollars } from "./spans.ts";

/** One line above the prompt; undefined where only the API costs: `modal-sb usage` says that. */
export function costLine(spending: Spending | undefined): string | undefined {
  if (!spending?.machines) return undefined;
  const { modelUsd, machines } = spending;
  const what = machines.gpu === undefined ? "machines" : `${machines.gpu} and the other machines`;
  return `cost so far: ${dollars(machines.usd)} for ${what} (${dollars(machines.usdPerHour)} an hour), ${dollars(modelUsd)} for the model`;
}
