/** What a session costs: the dollars of the Claude API by the proxy's count, and those of its machines by their list price. */
import type { Provider } from "../sandbox/provider.ts";
import type { ProxyRole } from "./proxy-role.ts";

export interface Spending {
  /** of the API, of all sandboxes that the session ever had */
  modelUsd: number;
  /** of the sandboxes that run now, until now; undefined: they cost nothing, or have no known price */
  machines: { usd: number; usdPerHour: number; gpu: string | undefined } | undefined;
}

/** Rejects when one of the two does not answer. */
export async function spendingOf(provider: Provider, session: string, proxy: ProxyRole): Promise<Spending> {
  const [usage, records] = await Promise.all([
    proxy.control({ op: "usage", account: session }),
    provider.list({ session }),
  ]);
  const priced = records.filter(({ usdPerHour }) => usdPerHour !== undefined);
  const hours = (startedAt: string) => Math.max(0, Date.now() - Date.parse(startedAt)) / 3_600_000;
  const sum = (costOf: (record: (typeof priced)[number]) => number) =>
    priced.reduce((total, record) => total + costOf(record), 0);
  return {
    modelUsd: Number(usage["usd"]),
    machines:
      priced.length === 0
        ? undefined
        : {
            usd: sum(({ usdPerHour = 0, startedAt }) => usdPerHour * hours(startedAt)),
            usdPerHour: sum(({ usdPerHour = 0 }) => usdPerHour),
            gpu: priced.find(({ gpu }) => gpu !== undefined)?.gpu,
          },
  };
}
