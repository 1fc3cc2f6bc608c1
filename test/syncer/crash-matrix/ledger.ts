/** What the databases along the chain hold: nothing torn, nothing remembered as sent that is not there, every row once. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { rowsOf } from "../runs.ts";

export const countedTables = ["metrics", "system_metrics", "alerts"] as const;
type CountedTable = (typeof countedTables)[number];

/** of rows that a failure names */
const maxNamed = 20;

const keyOf = (table: CountedTable) => (table === "alerts" ? "alert_id" : "log_id");

/** Published databases are whole, and never have fewer rows than before. `seen` keeps how many they had. */
export function assertWhole(folder: string, seen: Map<string, number>): void {
  for (const name of readdirSync(folder).filter((each) => /^[^.].*\.db$/.test(each))) {
    const url = pathToFileURL(join(folder, name));
    // as the syncer opens it; otherwise SQLite would put its own files beside it
    url.search = "?mode=ro&immutable=1";
    const db = new DatabaseSync(url, { readOnly: true });
    try {
      const found = db.prepare("PRAGMA integrity_check").all();
      assert.deepEqual(
        found.map((row) => row["integrity_check"]),
        ["ok"],
        `${name} is torn`,
      );
      const rows = hasTable(db, "metrics") ? Number(db.prepare("SELECT COUNT(*) AS n FROM metrics").get()?.["n"]) : 0;
      assert.ok(rows >= (seen.get(name) ?? 0), `${name} went back from ${seen.get(name)} rows to ${rows}`);
      seen.set(name, rows);
    } finally {
      db.close();
    }
  }
}

export interface Places {
  /** where trackio writes */
  from: string;
  /** the server's folder */
  remote: string;
  /** the syncer's watermarks */
  statePath: string;
}

/** Every row that the syncer remembers as sent is on the server. Holds at any moment, unless the server lost rows. */
export function assertNothingAhead({ from, remote, statePath }: Places, projects: readonly string[]): void {
  // watermarks first: what is sent meanwhile is on the server then
  const state = existsSync(statePath) ? new DatabaseSync(statePath, { readOnly: true, timeout: 600_000 }) : undefined;
  const positions = state?.prepare("SELECT project, name, id FROM positions").all() ?? [];
  const refused = state?.prepare("SELECT project, name, id FROM refused").all() ?? [];
  state?.close();
  for (const project of projects) {
    for (const table of countedTables) {
      const isHere = (row: Record<string, unknown>) => row["project"] === project && row["name"] === table;
      const upTo = Number(positions.find(isHere)?.["id"] ?? 0);
      if (upTo === 0) continue;
      const kept = new Set(refused.filter(isHere).map((row) => Number(row["id"])));
      const there = new Set(keysIn(join(remote, `${project}.db`), table).map(({ key }) => key));
      const missing = keysIn(join(from, `${project}.db`), table).filter(
        ({ id, key }) => id <= upTo && !kept.has(id) && !there.has(key),
      );
      const words = missing.map(({ id, key }) => `${id} (${key})`).slice(0, maxNamed);
      const claim = `${table} of ${project} are remembered as sent up to ${upTo}`;
      assert.equal(missing.length, 0, `${claim}, but ${missing.length} are missing: ${words.join(", ")}`);
    }
  }
}

/** The watermarks stand at the last row of each table, and no row is left out. */
export function assertAllRemembered({ from, statePath }: Places, projects: readonly string[]): void {
  const state = new DatabaseSync(statePath, { readOnly: true, timeout: 600_000 });
  const found = state.prepare("SELECT project, name, id FROM positions").all();
  const refused = state.prepare("SELECT * FROM refused").all();
  state.close();
  assert.deepEqual(refused, [], "rows are left out");
  for (const project of projects) {
    for (const table of [...countedTables, "configs"]) {
      const row = found.find((each) => each["project"] === project && each["name"] === table);
      const last = lastIn(join(from, `${project}.db`), table);
      assert.equal(Number(row?.["id"] ?? 0), last, `watermark of ${table} of ${project}`);
    }
  }
}

/** Every row is there once and equal, and no row more; otherwise says which are missing, doubled, or different. */
export function assertSameRows({ from, remote }: Places, project: string): number {
  const [here, there] = [from, remote].map((folder) => rowsOf(join(folder, `${project}.db`)));
  const faults: string[] = [];
  for (const [table, rows] of Object.entries(here ?? {})) {
    const wanted = countsOf(rows);
    const got = countsOf(there?.[table] ?? []);
    for (const [row, count] of wanted) {
      const found = got.get(row) ?? 0;
      if (found < count) faults.push(`missing in ${table} of ${project}: ${row}`);
    }
    for (const [row, count] of got) {
      const expected = wanted.get(row) ?? 0;
      if (count > expected)
        faults.push(`${expected === 0 ? "not logged" : "doubled"} in ${table} of ${project}: ${row}`);
    }
  }
  assert.equal(
    faults.length,
    0,
    `${faults.length} rows differ:\n${faults
      .map((each) => each.slice(0, 300))
      .slice(0, maxNamed)
      .join("\n")}`,
  );
  return here?.["metrics"]?.length ?? 0;
}

function countsOf(rows: readonly unknown[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const row of rows) {
    const words = JSON.stringify(row);
    counts.set(words, (counts.get(words) ?? 0) + 1);
  }
  return counts;
}

function keysIn(path: string, table: CountedTable): { id: number; key: string }[] {
  if (!existsSync(path)) return [];
  const db = new DatabaseSync(path, { readOnly: true, timeout: 600_000 });
  try {
    if (!hasTable(db, table)) return [];
    const found = db.prepare(`SELECT id, ${keyOf(table)} AS key FROM ${table}`).all();
    return found.map((row) => ({ id: Number(row["id"]), key: String(row["key"]) }));
  } finally {
    db.close();
  }
}

function lastIn(path: string, table: string): number {
  const db = new DatabaseSync(path, { readOnly: true, timeout: 600_000 });
  try {
    return Number(db.prepare(`SELECT max(id) AS id FROM ${table}`).get()?.["id"] ?? 0);
  } finally {
    db.close();
  }
}

/** False while trackio is making the tables. */
function hasTable(db: DatabaseSync, table: string): boolean {
  return db.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?").get(table) !== undefined;
}
