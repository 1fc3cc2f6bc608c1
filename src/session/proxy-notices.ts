/** What the proxy's notices mean, in words for the user and for the agent. */
import type { ProxyNotice } from "./proxy-role.ts";

/** A sentence for the user. */
export function wordsOf(notice: ProxyNotice): string {
  switch (notice.kind) {
    case "unknown_price":
      return `The price of the model "${notice.name}" is not known: it counts as the dearest. The setting "prices" can name it`;
    case "credential_refused":
      return `${notice.name} refused the credential that the proxy holds`;
    case "budget":
      return `${notice.percent} % of this session's ${limitOf(notice)} is used: ${amount(notice.used, notice)} of ${amount(notice.of, notice)}`;
  }
}

/** What the agent is told with its next message; undefined when it is none of its concern. */
export function noteToAgent(notice: ProxyNotice): string | undefined {
  if (notice.kind !== "budget") return undefined;
  const advice = notice.percent >= 100 ? "Further requests are refused." : "Finish what matters most, and say so.";
  return `<system-reminder>modal-sb: ${wordsOf(notice)}. ${advice}</system-reminder>`;
}

type Budget = Extract<ProxyNotice, { kind: "budget" }>;

function limitOf({ limit }: Budget): string {
  return { usd: "budget", inputTokens: "input tokens", outputTokens: "output tokens" }[limit];
}

function amount(value: number, { limit }: Budget): string {
  return limit === "usd" ? `$${value.toFixed(2)}` : String(value);
}
