/**
 * What the demo's trackio server keeps: a folder with a database for each project, as trackio 0.43 has it
 * (`sqlite_storage.py`), so that trackio itself can open it. What is missing, trackio then adds: tables of artifacts, and
 * indexes that only save time.
 */
import { isUtf8 } from "node:buffer";
import { randomUUID } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { constants, DatabaseSync, type SQLInputValue, type SQLOutputValue } from "node:sqlite";
import { isObject, type Json, type JsonObject, stringifyJson } from "./trackio-json.ts";

const maxQueryRows = 10_000;
const schema = `
CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL,
  run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL, log_id TEXT, space_id TEXT);
CREATE TABLE system_metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL,
  run_name TEXT NOT NULL, metrics TEXT NOT NULL, log_id TEXT, space_id TEXT);
CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, run_name TEXT NOT NULL,
  config TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_id));
CREATE TABLE traces (id TEXT PRIMARY KEY, run_id TEXT NOT NULL, timestamp TEXT NOT NULL, run_name TEXT NOT NULL,
  step INTEGER NOT NULL, key TEXT NOT NULL, trace_index INTEGER, messages TEXT NOT NULL, metadata TEXT NOT NULL,
  search_text TEXT NOT NULL, log_id TEXT, space_id TEXT, spans TEXT NOT NULL DEFAULT '[]');
CREATE TABLE alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL,
  run_name TEXT NOT NULL, title TEXT NOT NULL, text TEXT, level TEXT NOT NULL DEFAULT 'warn', step INTEGER,
  alert_id TEXT);
CREATE UNIQUE INDEX idx_metrics_log_id ON metrics(log_id) WHERE log_id IS NOT NULL;
CREATE UNIQUE INDEX idx_system_metrics_log_id ON system_metrics(log_id) WHERE log_id IS NOT NULL;
CREATE UNIQUE INDEX idx_alerts_alert_id ON alerts(alert_id) WHERE alert_id IS NOT NULL;
PRAGMA user_version = 2;
`;

/** what a query may do; not in it: writing, attaching, and recursion, which need not end */
const allowedInQueries = new Set<number>([constants.SQLITE_SELECT, constants.SQLITE_READ, constants.SQLITE_FUNCTION]);

/** Entries of one run, as they came. */
interface Group {
  project: string;
  run: { run_name: string | null; run_id: string | null };
  entries: JsonObject[];
}

export class TrackioStore {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  projects(): string[] {
    const files = readdirSync(this.#folder).filter((name) => name.endsWith(".db"));
    return files.map((name) => name.slice(0, -".db".length)).sort();
  }

  runs(project: string): unknown[] {
    if (!existsSync(this.#pathOf(project))) return [];
    using db = this.#open(project);
    const columns = "run_id AS id, run_name AS name, MIN(timestamp) AS created_at";
    return db.prepare(`SELECT ${columns} FROM metrics GROUP BY run_id, run_name ORDER BY created_at`).all();
  }

  /** Throws with trackio's words. */
  query(project: string, query: string): unknown {
    if (!existsSync(this.#pathOf(project))) throw new Error(`Project '${project}' not found.`);
    const sql = query.trim().replace(/;+$/, "").trim();
    if (sql === "") throw new Error("Query cannot be empty.");
    if (!/^(select|with|pragma)/i.test(sql)) {
      throw new Error("Only read-only SELECT, WITH, and safe PRAGMA queries are supported.");
    }
    using db = this.#open(project);
    db.setAuthorizer((action) => (allowedInQueries.has(action) ? constants.SQLITE_OK : constants.SQLITE_DENY));
    const statement = db.prepare(sql);
    statement.setReadBigInts(true);
    const rows: Record<string, unknown>[] = [];
    for (const row of statement.iterate()) {
      if (rows.length === maxQueryRows) {
        throw new Error(`Query returned more than ${maxQueryRows} rows. Refine the query or add a LIMIT clause.`);
      }
      rows.push(Object.fromEntries(Object.entries(row).map(([name, value]) => [name, withoutBlob(value)])));
    }
    const columns = statement.columns().map(({ name }) => name);
    return { project, query: sql, columns, rows, row_count: rows.length };
  }

  /** The times that entries bring are dropped, as in trackio. */
  log(entries: readonly Json[]): void {
    for (const group of groupsOf(entries, ["metrics"])) this.#write(group.project, (db) => logGroup(db, group));
  }

  logSystem(entries: readonly Json[]): void {
    for (const { project, run, entries: rows } of groupsOf(entries, ["metrics"])) {
      this.#write(project, (db) => {
        for (const row of rows) {
          const metrics = blobOf(row["metrics"]);
          insert(db, "system_metrics", { ...run, ...textsOf(row, ["timestamp", "log_id"]), metrics });
        }
      });
    }
  }

  alert(entries: readonly Json[]): void {
    for (const { project, run, entries: rows } of groupsOf(entries, ["title", "level"])) {
      this.#write(project, (db) => {
        for (const row of rows) {
          const texts = textsOf(row, ["timestamp", "title", "text", "level", "alert_id"]);
          insert(db, "alerts", { ...run, ...texts, step: stepOf(row) });
        }
      });
    }
  }

  #pathOf(project: string): string {
    return join(this.#folder, `${canonical(project)}.db`);
  }

  #open(project: string): DatabaseSync {
    const db = new DatabaseSync(this.#pathOf(project), { timeout: 5000 });
    if (db.prepare("PRAGMA user_version").get()?.["user_version"] === 0) {
      db.exec(`PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; ${schema} COMMIT`);
    }
    return db;
  }

  /** All or nothing. */
  #write(project: string, work: (db: DatabaseSync) => void): void {
    using db = this.#open(project);
    db.exec("BEGIN IMMEDIATE");
    work(db);
    db.exec("COMMIT");
  }
}

function logGroup(db: DatabaseSync, { run, entries }: Group): void {
  const timestamp = new Date().toISOString().replace("Z", "000+00:00");
  const last = db.prepare("SELECT MAX(step) AS step FROM metrics WHERE run_id = ?").get(run.run_id)?.["step"];
  let next = typeof last === "number" ? last + 1 : 0;
  for (const entry of entries) {
    const row = { ...run, timestamp, step: stepOf(entry) ?? next++, log_id: textOf(entry, "log_id") };
    const { values, traces } = withoutTraces(entry["metrics"]);
    insert(db, "metrics", { ...row, metrics: blobOf(values) });
    for (const { key, index, trace } of traces) {
      const logId = row.log_id ?? randomUUID().replaceAll("-", "");
      const id = [run.run_id, logId, key, ...(index === null ? [] : [index])].join(":");
      const { messages = [], metadata = {}, spans = [] } = trace;
      const blobs = { messages: blobOf(messages), metadata: blobOf(metadata), spans: blobOf(spans) };
      // trackio leaves the JSON's signs out; what is searched is found all the same
      const search = `${id} ${key} ${stringifyJson(trace)}`.toLowerCase();
      insert(db, "traces", { ...row, id, key, trace_index: index, ...blobs, search_text: search });
    }
  }
  const config = entries.map((entry) => entry["config"]).find((found) => isObject(found) && Object.keys(found).length);
  if (config === undefined) return;
  db.prepare("DELETE FROM configs WHERE run_id = ?").run(run.run_id);
  insert(db, "configs", { ...run, config: blobOf(config), created_at: timestamp });
}

/** A row whose key is there, or that lacks what it must have, is left out without a word, as in trackio. */
function insert(db: DatabaseSync, table: string, row: Readonly<Record<string, SQLInputValue>>): void {
  const names = Object.keys(row);
  const places = names.map(() => "?");
  db.prepare(`INSERT OR IGNORE INTO ${table} (${names}) VALUES (${places})`).run(...Object.values(row));
}

interface Trace {
  key: string;
  /** in a list of traces */
  index: number | null;
  trace: JsonObject;
}

/** trackio keeps traces in a table of their own. */
function withoutTraces(metrics: Json | undefined): { values: JsonObject; traces: Trace[] } {
  if (!isObject(metrics)) throw new Error("metrics must be an object");
  const isTrace = (item: Json): item is JsonObject => isObject(item) && item["_type"] === "trackio.trace";
  const traces: Trace[] = [];
  const values: [string, Json][] = [];
  for (const [key, value] of Object.entries(metrics)) {
    const items: readonly Json[] = Array.isArray(value) ? value : [value];
    const others = items.filter((item) => !isTrace(item));
    if (others.length === items.length) values.push([key, value]);
    else if (others.length > 0) values.push([key, others]);
    const indexOf = (index: number) => (Array.isArray(value) ? index : null);
    for (const [at, trace] of items.entries()) if (isTrace(trace)) traces.push({ key, index: indexOf(at), trace });
  }
  return { values: Object.fromEntries(values), traces };
}

/** By run, in the order in which they came. Throws with Python's words when an entry lacks something. */
function groupsOf(entries: readonly Json[], required: readonly string[]): Group[] {
  const groups = new Map<string, Group>();
  for (const entry of entries) {
    if (!isObject(entry)) throw new Error("an entry must be an object");
    for (const name of ["project", "run", ...required]) if (!(name in entry)) throw new Error(`'${name}'`);
    const project = textOf(entry, "project") ?? "";
    const run = { run_name: textOf(entry, "run"), run_id: textOf(entry, "run_id") || textOf(entry, "run") };
    const key = JSON.stringify([project, run]);
    const group = groups.get(key) ?? { project, run, entries: [] };
    group.entries.push(entry);
    groups.set(key, group);
  }
  return [...groups.values()];
}

function textOf(entry: JsonObject, name: string): string | null {
  const value = entry[name] ?? null;
  if (value !== null && typeof value !== "string") throw new Error(`${name} must be a string`);
  return value;
}

function textsOf(entry: JsonObject, names: readonly string[]): Record<string, string | null> {
  return Object.fromEntries(names.map((name) => [name, textOf(entry, name)]));
}

function stepOf({ step = null }: JsonObject): bigint | null {
  if (step === null) return null;
  const digits = JSON.stringify(step).replace(/\.0+$/, "");
  if (!/^-?\d{1,19}$/.test(digits)) throw new Error("step must be a whole number");
  return BigInt(digits);
}

function blobOf(value: Json | undefined): Buffer {
  return Buffer.from(stringifyJson(value ?? null));
}

function withoutBlob(value: SQLOutputValue): unknown {
  return value instanceof Uint8Array ? Buffer.from(value).toString(isUtf8(value) ? "utf8" : "hex") : value;
}

/** A project's name as a file's: letters, digits, `-` and `_`. */
function canonical(project: string): string {
  return project.replaceAll(/[^\p{L}\p{N}_-]/gu, "") || "default";
}
