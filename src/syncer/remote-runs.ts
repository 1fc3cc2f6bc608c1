/** What a server has of a project's runs. */
import type { CountedTable } from "./rows.ts";
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
