/** What a session has spent on the Claude API, as its proxy wrote it down: read while the proxy runs or after. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Spending } from "../proxy/ledger.ts";

/** The requests, the tokens and the dollars of one session. */
export interface AccountSpending extends Omit<Spending, "nanoUsd"> {
  session: string;
  usd: number;
}

/** `folder`: where the volume of the proxy lies; undefined: there is none. Zeros when nothing was spent. */
export function spendingOf(session: string, folder: string | undefined): AccountSpending {
  const nothing = {
    ...{ session, requests: 0, refused: 0, inputTokens: 0, outputTokens: 0 },
    ...{ cacheReadTokens: 0, cacheWriteTokens: 0, usd: 0 },
  };
  const path = join(folder ?? "", "ledger.db");
  if (folder === undefined || !existsSync(path)) return nothing;
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    const row = database.prepare("SELECT * FROM accounts WHERE account = ?").get(session);
    if (!row) return nothing;
    const count = (name: string) => Number(row[name]);
    return {
      ...{ session, requests: count("requests"), refused: count("refused") },
      ...{ inputTokens: count("inputTokens"), outputTokens: count("outputTokens") },
      ...{ cacheReadTokens: count("cacheReadTokens"), cacheWriteTokens: count("cacheWriteTokens") },
      usd: count("nanoUsd") / 1e9,
    };
  } finally {
    database.close();
  }
}
