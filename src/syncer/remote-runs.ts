/** What a server has of a project's runs. */
import type { CountedTable, Position } from "./rows.ts";
import { ServerFailure, type TrackioServer } from "./trackio-server.ts";

/** names may have a thousand characters each */
const pageRuns = 1000;

interface RemoteRun {
  name: string;
  rows: number;
  /** rows that still have their own name; a rename on the server takes them away */
  named: number;
}
export type RemoteRuns = ReadonlyMap<string, RemoteRun>;

/** By the run's id. `unsupported`: the server is too old to be asked. */
export async function remoteRuns(
  server: TrackioServer,
  project: string,
  table: CountedTable,
): Promise<RemoteRuns | "no project" | "unsupported"> {
  const key = table === "alerts" ? "alert_id" : "log_id";
  const columns = `run_id, MAX(run_name) AS name, COUNT(*) AS n, COUNT(${key}) AS named`;
  const found = new Map<string, RemoteRun>();
  try {
    // in pages: a project may have more runs than fit an answer
    for (let after = ""; ; ) {
      const where = `WHERE run_id > '${after.replaceAll("'", "''")}'`;
      const query = `SELECT ${columns} FROM ${table} ${where} GROUP BY run_id ORDER BY run_id LIMIT ${pageRuns}`;
      const data = await server.call("query_project", JSON.stringify({ project, query }));
      const rows = (data as { rows?: unknown } | null)?.rows;
      if (!Array.isArray(rows)) return "unsupported";
      for (const row of rows as Record<string, unknown>[]) {
        after = String(row["run_id"]);
        found.set(after, { name: String(row["name"]), rows: Number(row["n"]), named: Number(row["named"]) });
      }
      if (rows.length < pageRuns) return found;
    }
  } catch (error) {
    if (!(error instanceof ServerFailure)) throw error;
    if (error.kind === "content" && /not found/i.test(error.message)) return "no project";
    if (error.kind === "unsupported" || /no such (table|column)/i.test(error.message)) return "unsupported";
    throw error;
  }
}

/**
 * By what a server's database can be known again: the highest id that it has given to a row of metrics, which deleting does not
 * lower, with that row's name; and the name of the row with id `known`. Names are "" for rows that are gone or have
 * none. Undefined: it cannot be asked. Throws a ServerFailure.
 */
export async function remoteAnchor(
  server: TrackioServer,
  project: string,
  known: number,
): Promise<{ last: Position; keyAtKnown: string } | undefined> {
  const nameAt = (id: string) => `(SELECT log_id FROM metrics WHERE id = ${id})`;
  const query = `SELECT seq, ${nameAt("seq")} AS name, ${nameAt(String(known))} AS known
    FROM sqlite_sequence WHERE name = 'metrics'`;
  try {
    const data = await server.call("query_project", JSON.stringify({ project, query }));
    const [row] = (data as { rows?: Record<string, unknown>[] } | null)?.rows ?? [];
    if (!row) return undefined;
    const last = { id: Number(row["seq"]), key: String(row["name"] ?? "") };
    return { last, keyAtKnown: String(row["known"] ?? "") };
  } catch (error) {
    if (!(error instanceof ServerFailure) || !["content", "unsupported"].includes(error.kind)) throw error;
    return undefined;
  }
}
