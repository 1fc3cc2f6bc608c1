/** What a server has of a project's runs. */
import type { CountedTable, Position } from "./rows.ts";
import { ServerFailure, type TrackioServer } from "./trackio-server.ts";

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
  const query = `SELECT run_id, MAX(run_name) AS name, COUNT(*) AS n, COUNT(${key}) AS named FROM ${table} GROUP BY run_id`;
  try {
    const data = await server.call("query_project", JSON.stringify({ project, query }));
    const rows = (data as { rows?: unknown } | null)?.rows;
    if (!Array.isArray(rows)) return "unsupported";
    return new Map(
      (rows as Record<string, unknown>[]).map((row) => [
        String(row["run_id"]),
        { name: String(row["name"]), rows: Number(row["n"]), named: Number(row["named"]) },
      ]),
    );
  } catch (error) {
    if (!(error instanceof ServerFailure)) throw error;
    if (error.kind === "content" && /not found/i.test(error.message)) return "no project";
    if (error.kind === "unsupported" || /no such (table|column)/i.test(error.message)) return "unsupported";
    throw error.kind === "content" ? new ServerFailure("later", error.message) : error;
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
