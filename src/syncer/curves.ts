/**
 * What a project's runs have measured, small enough to be drawn: runs in reader-main's process, over a database and
 * fragments that somebody hostile may have made. Whatever they hold, the answer and the memory for it are bounded.
 */
import type { DatabaseSync } from "node:sqlite";
import { CurveCollector } from "./curve-collector.ts";
import { type Access, type Row, Schema, withDatabase } from "./database.ts";
import { type FragmentRows, readFragment } from "./fragments.ts";
import type { CountedTable } from "./rows.ts";
import type { CurvePoint } from "./thinning.ts";

export interface FragmentPath {
  folder: string;
  /** below the folder */
  path: string;
}

export interface CurvesRequest {
  /** in trackio's form, to know its rows in fragments */
  project: string;
  /** undefined: the project has only fragments */
  path: string | undefined;
  access: Access;
  fragments: readonly FragmentPath[];
  /** at least so many parts of a curve keep their extremes */
  columns: number;
  /** names or ids; none: all */
  runs: readonly string[];
  /** names, or what stands before a slash in them; none: all */
  metrics: readonly string[];
}

/** A number, the start of a word, or what stands for a value of another kind: "NaN", "(image)", "(list of 3)". */
export type LatestValue = number | string | null;

export interface Series {
  /** with the keys of nested objects, joined by slashes */
  name: string;
  latest: LatestValue;
  /** finite numbers that were logged, and the others: NaN, infinities */
  numbers: number;
  gaps: number;
  /** of the finite numbers; null when there is none */
  least: number | null;
  most: number | null;
  /** x is a step, or for system metrics milliseconds since 1970; null: not among those that are to be drawn */
  points: CurvePoint[] | null;
}

export interface RunCurves {
  runId: string;
  run: string;
  /** metrics rows */
  rows: number;
  firstStep: number | null;
  lastStep: number | null;
  /** as trackio wrote it; of a metrics or system metrics row */
  lastTimestamp: string | null;
  /** JSON of an object */
  config: string | null;
  alerts: number;
  metrics: Series[];
  system: Series[];
}

export interface AlertNote {
  run: string;
  level: string;
  title: string;
  step: number | null;
}

export interface ProjectCurves {
  /** that which logged last first */
  runs: RunCurves[];
  /** the latest ones, oldest first */
  alerts: AlertNote[];
  /** what is there and not looked at: the oldest runs and rows, rows that cannot be used, values over the limits */
  leftOut: { runs: number; rows: number; unusable: number; values: number };
}

/** rows of a table that are looked at, the latest ones: more would take too long */
const maxRows = 1_000_000;
const maxRuns = 1000;

interface Ranked {
  runId: string;
  run: string;
}

/** Throws an Error that says what is wrong with the database. Fragments that cannot be read are left out. */
export function readCurves(request: CurvesRequest): ProjectCurves {
  const fragmentRuns = runsIn(request);
  if (request.path === undefined) {
    const collector = new CurveCollector(request, fragmentRuns.slice(0, maxRuns));
    addFragments(request, collector, () => false);
    return collector.result(Math.max(0, fragmentRuns.length - maxRuns), 0);
  }
  return withDatabase(request.path, request.access, (db) => {
    const schema = new Schema(db);
    const known = [...fragmentRuns, ...rankedRuns(db, schema, request.runs)];
    const ranked = [...new Map(known.map((each) => [each.runId, each])).values()];
    const collector = new CurveCollector(request, ranked.slice(0, maxRuns));
    let left = 0;
    for (const table of ["metrics", "system_metrics", "alerts", "configs"] as const) {
      if (!schema.has(table)) continue;
      const start = startOf(db, table);
      let last = start;
      for (const row of db.prepare(schema.select(table, "all")).iterate(start) as Iterable<Row>) {
        // a broken tree can give rows twice, and without end
        if (Number(row["id"]) <= last) throw new Error("its rows are out of order");
        last = Number(row["id"]);
        collector.add(table, row);
      }
      if (table === "metrics" && start > 0) left = countTo(db, start);
    }
    addFragments(request, collector, (table, key) => isIn(db, schema, table, key));
    return collector.result(Math.max(0, ranked.length - maxRuns), left);
  });
}

/** The fragments of each project; those that cannot be read are left out. */
export function fragmentsByProject(fragments: readonly FragmentPath[]): Record<string, FragmentPath[]> {
  const found = new Map<string, FragmentPath[]>();
  for (const fragment of fragments) {
    const { metrics, system_metrics, alerts } = rowsOf(fragment);
    for (const project of new Set([...metrics, ...system_metrics, ...alerts].map((each) => each.project))) {
      const list = found.get(project) ?? [];
      found.set(project, list);
      list.push(fragment);
    }
  }
  return Object.fromEntries(found);
}

/** That which logged last first. A run of a rank beyond what is shown is only counted. */
function rankedRuns(db: DatabaseSync, schema: Schema, wanted: readonly string[]): Ranked[] {
  const found = new Map<string, Ranked>();
  for (const table of ["metrics", "system_metrics", "alerts"] as const) {
    if (!schema.has(table)) continue;
    const runId = schema.runId(table);
    const sql = `SELECT substr(CAST(${runId} AS TEXT), 1, 1024) AS runId, substr(CAST(run_name AS TEXT), 1, 1024) AS run,
      max(rowid) AS last FROM ${table}
      WHERE ? = 0 OR run_name IN (SELECT value FROM json_each(?)) OR ${runId} IN (SELECT value FROM json_each(?))
      GROUP BY ${runId} ORDER BY last DESC LIMIT ${maxRuns * 10}`;
    const list = JSON.stringify(wanted);
    for (const row of db.prepare(sql).iterate(wanted.length, list, list) as Iterable<Row>) {
      const id = String(row["runId"] ?? "");
      if (!found.has(id)) found.set(id, { runId: id, run: String(row["run"] ?? "") });
    }
  }
  return [...found.values()];
}

/** The rows after this id are looked at. */
function startOf(db: DatabaseSync, table: string): number {
  const sql = `SELECT rowid AS id FROM ${table} ORDER BY rowid DESC LIMIT 1 OFFSET ${maxRows}`;
  return Number(db.prepare(sql).get()?.["id"] ?? 0);
}

function countTo(db: DatabaseSync, id: number): number {
  return Number(db.prepare("SELECT COUNT(*) AS n FROM metrics WHERE rowid <= ?").get(id)?.["n"] ?? 0);
}

/** trackio imports fragments into the database; both are there for a while, or for good in a copy. */
function isIn(db: DatabaseSync, schema: Schema, table: CountedTable, key: string): boolean {
  const column = schema.column(table, table === "alerts" ? "alert_id" : "log_id");
  if (column === undefined) return false;
  return db.prepare(`SELECT 1 FROM ${table} WHERE ${column} = ?`).get(key) !== undefined;
}

type IsKnown = (table: CountedTable, key: string) => boolean;

function addFragments({ project, fragments }: CurvesRequest, collector: CurveCollector, isKnown: IsKnown): void {
  for (const fragment of fragments) {
    const rows = rowsOf(fragment);
    for (const table of ["metrics", "system_metrics", "alerts"] as const) {
      for (const each of rows[table]) {
        if (each.project !== project || isKnown(table, each.row.key)) continue;
        const { row, config } = each;
        if (config !== undefined) collector.add("configs", { runId: row.runId, run: row.run, config });
        collector.add(table, { ...row, isUnnamed: null, traces: null });
      }
    }
  }
}

function runsIn({ project, fragments, runs }: CurvesRequest): Ranked[] {
  const found = new Map<string, Ranked & { timestamp: string }>();
  for (const fragment of fragments) {
    const { metrics, system_metrics, alerts } = rowsOf(fragment);
    for (const { row, project: of } of [...metrics, ...system_metrics, ...alerts]) {
      if (of !== project || (runs.length > 0 && !runs.includes(row.run) && !runs.includes(row.runId))) continue;
      const known = found.get(row.runId);
      if (!known || known.timestamp < row.timestamp) found.set(row.runId, row);
    }
  }
  return [...found.values()].sort((one, other) => (one.timestamp < other.timestamp ? 1 : -1));
}

function rowsOf({ folder, path }: FragmentPath): FragmentRows {
  try {
    return readFragment(folder, path);
  } catch {
    return { metrics: [], system_metrics: [], alerts: [], unusable: 0 };
  }
}
