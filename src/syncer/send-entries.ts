import type { CountedTable } from "./rows.ts";
import { ServerFailure, type TrackioServer } from "./trackio-server.ts";

export interface Entry {
  /** of the row */
  id: number;
  json: string;
}

const apis = {
  metrics: { name: "bulk_log", list: "logs" },
  system_metrics: { name: "bulk_log_system", list: "logs" },
  alerts: { name: "bulk_alert", list: "alerts" },
} as const;

/** Sends rows of a table, at most as many as fit a request; returns those that the server refuses. `spend` may throw. */
export async function sendRows(
  server: TrackioServer,
  table: CountedTable,
  entries: readonly Entry[],
  spend: (bytes: number) => void,
): Promise<Refused[]> {
  if (entries.length === 0) return [];
  const { name, list } = apis[table];
  return await sendEntries(entries, async (part) => {
    const kwargs = `{"${list}":[${part.map(({ json }) => json).join(",")}],"hf_token":null}`;
    spend(Buffer.byteLength(kwargs));
    await server.call(name, kwargs);
  });
}

/** An entry that the server does not take, though it takes others. */
export interface Refused {
  id: number;
  reason: string;
}

/** so many failures without a success between them are the server's fault, and not the rows' */
const maxFailuresInARow = 12;

/**
 * Sends all entries in one request. When the server cannot take them, finds the ones it cannot take, by halves. Returns
 * those. Throws a ServerFailure of kind `content` when it takes none: nothing is then known about single entries.
 */
export async function sendEntries(
  entries: readonly Entry[],
  send: (entries: readonly Entry[]) => Promise<void>,
): Promise<Refused[]> {
  const refused: Refused[] = [];
  let failures = 0;
  let hasSucceeded = false;
  const attempt = async (part: readonly Entry[]): Promise<void> => {
    try {
      await send(part);
      failures = 0;
      hasSucceeded = true;
    } catch (error) {
      if (!(error instanceof ServerFailure) || error.kind !== "content") throw error;
      failures += 1;
      if (failures >= maxFailuresInARow) throw error;
      const [only] = part;
      if (part.length === 1 && only) {
        refused.push({ id: only.id, reason: error.message });
        return;
      }
      await attempt(part.slice(0, part.length / 2));
      await attempt(part.slice(part.length / 2));
    }
  };
  await attempt(entries);
  if (refused.length > 0 && !hasSucceeded) {
    throw new ServerFailure("content", refused[0]?.reason ?? "the server takes no row");
  }
  return refused;
}
