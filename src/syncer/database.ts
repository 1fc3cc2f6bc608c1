/**
 * Reads a trackio database that somebody hostile may have made: fixed statements on plain tables, no code of the file's
 * own (views, triggers, generated columns), limits on every value. Runs in the reader's process, which holds no credential.
 * Schema: trackio 0.17 to 0.43, sqlite_storage.py.
 */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readdirSync, statSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import type {
  AlertRow,
  ConfigRow,
  CountedTable,
  Delta,
  MetricsRow,
  Positions,
  RunCount,
  SystemRow,
  Table,
  TraceRow,
} from "./rows.ts";
import { tables } from "./rows.ts";

/**
 * `published`: the file is replaced as a whole and never written in place. `live`: trackio may be writing it now, on this
 * machine; SQLite's locks keep the two apart.
 */
export type Access = "published" | "live";

export interface DeltaRequest {
  path: string;
  access: Access;
  after: Positions;
  /** most rows of a table */
  maxRows: number;
  /** of all rows together, a row may go over it */
  maxBytes: number;
  /** only rows of one table and run, up to an id: to send them again */
  only?: { table: CountedTable; runId: string; upTo: number };
}

/** longest value of a column, in bytes */
const maxValueBytes = 4 * 1024 * 1024;
/** of a value's brackets in each other: servers give up at about a thousand, and with them on all of a request */
const maxDepth = 100;
/** names of runs, keys and the like */
const maxNameBytes = 1024;
/** what SQLite itself may hold, in bytes */
const heapBytes = 256 * 1024 * 1024;
/** how long a writer may keep the file locked, in milliseconds */
const lockTimeoutMs = 2000;

type Value = string | number | null;
export type Row = Record<string, Value>;

/** What is new after the positions. Throws an Error that says what is wrong with the file. */
export function readDelta({ path, access, after, maxRows, maxBytes, only }: DeltaRequest): Delta {
  return withDatabase(path, access, (db) => {
    const schema = new Schema(db);
    const delta: Delta = {
      metrics: [],
      system_metrics: [],
      alerts: [],
      configs: [],
      last: { metrics: 0, system_metrics: 0, alerts: 0, configs: 0 },
      unusable: [],
      isSame: true,
    };
    for (const table of tables) {
      if (!schema.has(table)) {
        delta.isSame &&= after[table].id === 0;
        continue;
      }
      delta.last[table] = Number(db.prepare(`SELECT max(rowid) AS id FROM ${table}`).get()?.["id"] ?? 0);
      // rows that are sent again, and those behind an unusable one, are asked for by their place alone
      if (table !== "configs" && after[table].key !== "") delta.isSame &&= isAt(db, schema, table, after[table]);
    }
    if (!delta.isSame) return delta;
    let bytes = 0;
    for (const table of only ? [only.table] : tables) {
      if (!schema.has(table) || delta.last[table] <= after[table].id) continue;
      let id = after[table].id;
      let rows = 0;
      const found = only
        ? db.prepare(schema.select(table, "run")).iterate(id, only.runId, only.upTo)
        : db.prepare(schema.select(table, "all")).iterate(id);
      for (const row of found as Iterable<Row>) {
        // a broken tree can give rows twice, and without end
        if (Number(row["id"]) <= id) throw new Error("its rows are out of order");
        id = Number(row["id"]);
        bytes += take(db, schema, table, row, delta);
        rows += 1;
        if (rows >= maxRows || bytes >= maxBytes) break;
      }
    }
    return delta;
  });
}

/** Rows of each run in a table, up to an id. */
export function countRuns(path: string, access: Access, table: CountedTable, upTo: number): RunCount[] {
  return withDatabase(path, access, (db) => {
    const schema = new Schema(db);
    if (!schema.has(table)) return [];
    const runId = schema.runId(table);
    const sql = `SELECT ${named(runId)} AS runId, COUNT(*) AS rows FROM ${table} WHERE rowid <= ? GROUP BY ${runId} LIMIT 100000`;
    const found = db.prepare(sql).all(upTo) as Row[];
    return found.map((row) => ({ runId: textOf(row["runId"]), rows: Number(row["rows"]) }));
  });
}

/** Opens the file for one reading; it is never kept open, so that its folder can be taken away. */
export function withDatabase<Result>(path: string, access: Access, read: (db: DatabaseSync) => Result): Result {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  let db: DatabaseSync | undefined;
  try {
    const before = fstatSync(fd, { bigint: true });
    if (!before.isFile()) throw new Error("it is not a regular file");
    if (before.size === 0n) throw new Error("it is empty");
    const url = pathToFileURL(path);
    url.search = access === "published" ? "?mode=ro&immutable=1" : "?mode=ro";
    db = new DatabaseSync(url, { readOnly: true, allowExtension: false, timeout: lockTimeoutMs });
    // between looking and opening, a link to another file could have taken the name
    if (!isOpen(before.dev, before.ino, fd)) throw new Error("it was replaced while it was opened");
    db.exec(`PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;
      PRAGMA hard_heap_limit = ${heapBytes}; PRAGMA query_only = ON; PRAGMA temp_store = MEMORY`);
    if (access === "live") db.exec("BEGIN");
    return read(db);
  } finally {
    db?.close();
    closeSync(fd);
  }
}

/** Whether a descriptor besides `own` has that file open. */
function isOpen(device: bigint, inode: bigint, own: number): boolean {
  return readdirSync("/proc/self/fd").some((name) => {
    if (Number(name) === own) return false;
    const stat = statSync(`/proc/self/fd/${name}`, { bigint: true, throwIfNoEntry: false });
    return stat?.dev === device && stat.ino === inode;
  });
}

/** Which of the tables and columns are there: older databases have fewer. */
export class Schema {
  readonly #columns = new Map<string, Set<string>>();
  readonly #db: DatabaseSync;
  #traces: StatementSync | null | undefined;

  constructor(db: DatabaseSync) {
    this.#db = db;
    for (const table of [...tables, "traces"]) {
      const found = db.prepare("SELECT type, sql FROM sqlite_schema WHERE name = ?").get(table) as Row | undefined;
      if (!found) continue;
      if (found["type"] !== "table" || !/^CREATE TABLE\b/i.test(textOf(found["sql"]))) {
        throw new Error(`its "${table}" is not a plain table`);
      }
      const columns = db.prepare("SELECT name, hidden FROM pragma_table_xinfo(?)").all(table) as Row[];
      if (columns.some(({ hidden }) => hidden !== 0)) throw new Error(`its "${table}" has computed columns`);
      this.#columns.set(table, new Set(columns.map(({ name }) => textOf(name))));
      for (const needed of table === "traces" ? ["id", "key", "messages"] : ["run_name"]) {
        if (!this.column(table, needed)) throw new Error(`its "${table}" lacks the column "${needed}"`);
      }
    }
    if (!tables.some((table) => this.has(table))) throw new Error("it holds no table of trackio's");
  }

  has(table: string): boolean {
    return this.#columns.has(table);
  }

  column(table: string, name: string): string | undefined {
    return this.#columns.get(table)?.has(name) ? name : undefined;
  }

  /** What tells runs apart. */
  runId(table: Table): string {
    return this.column(table, "run_id") ?? "run_name";
  }

  /** Of one metrics row: those between two ids; null when there are none at all. Prepared once: it is asked for each row. */
  get traces(): StatementSync | null {
    if (this.#traces !== undefined) return this.#traces;
    const isEmpty = !this.has("traces") || !this.#db.prepare("SELECT 1 FROM traces LIMIT 1").get();
    const or = (name: string, other: string) => this.column("traces", name) ?? other;
    const sql = `SELECT ${named("key")} AS name, ${named(or("trace_index", "NULL"))} AS place,
      ${long("messages")} AS messages, ${long(or("metadata", "'{}'"))} AS metadata, ${long(or("spans", "'[]'"))} AS spans
      FROM traces WHERE id >= ? AND id < ? ORDER BY id LIMIT 1000`;
    this.#traces = isEmpty ? null : this.#db.prepare(sql);
    return this.#traces;
  }

  /** The rows after an id, in order, of all runs or of one up to another id; values over their limits come as NULL. */
  select(table: Table, which: "all" | "run"): string {
    const or = (name: string, other: string) => this.column(table, name) ?? other;
    const common = `rowid AS id, ${named(this.runId(table))} AS runId, ${named("run_name")} AS run`;
    const stamped = `${common}, ${named(or("timestamp", "NULL"))} AS timestamp`;
    const ofRun = which === "run" ? `AND ${this.runId(table)} = ? AND rowid <= ?` : "";
    const after = `FROM ${table} WHERE rowid > ? ${ofRun} ORDER BY rowid`;
    switch (table) {
      case "metrics":
        return `SELECT ${stamped}, ${named(or("log_id", "NULL"))} AS key, ${named(or("step", "0"))} AS step,
          ${long("metrics")} AS metrics, octet_length(metrics) AS size ${after}`;
      case "system_metrics":
        return `SELECT ${stamped}, ${named(or("log_id", "NULL"))} AS key, ${long("metrics")} AS metrics,
          octet_length(metrics) AS size ${after}`;
      case "alerts":
        return `SELECT ${stamped}, ${named(or("alert_id", "NULL"))} AS key, ${named("title")} AS title, ${long("text")} AS text,
          ${named(or("level", "'warn'"))} AS level, ${named(or("step", "NULL"))} AS step, octet_length(text) AS size ${after}`;
      default:
        return `SELECT ${common}, ${long("config")} AS config, octet_length(config) AS size ${after}`;
    }
  }
}

function named(expression: string): string {
  return limited(expression, maxNameBytes);
}

function long(expression: string): string {
  return limited(expression, maxValueBytes);
}

function limited(expression: string, bytes: number): string {
  return `CASE WHEN octet_length(${expression}) <= ${bytes} THEN CAST(${expression} AS TEXT) END`;
}

/** The row at a position must be the one that was there. */
function isAt(db: DatabaseSync, schema: Schema, table: Table, { id, key }: { id: number; key: string }): boolean {
  if (id === 0) return true;
  const name = schema.column(table, table === "alerts" ? "alert_id" : "log_id");
  const row = db.prepare(`SELECT ${named(name ?? "NULL")} AS key FROM ${table} WHERE rowid = ?`).get(id);
  // a row without a name of its own is known by its place alone
  return row !== undefined && (row["key"] === null || row["key"] === key);
}

/** Puts a row into the delta, or says why it cannot be used. Returns its bytes. */
function take(db: DatabaseSync, schema: Schema, table: Table, row: Row, delta: Delta): number {
  const id = Number(row["id"]);
  const size = Number(row["size"] ?? 0);
  const unusable = (reason: string) => {
    delta.unusable.push({ table, id, reason });
    return 64;
  };
  if (size > maxValueBytes) return unusable(`it has ${size} bytes, more than ${maxValueBytes}`);
  if (!row["runId"] || !row["run"]) return unusable("its run has no name, or one that is too long");
  if (table === "configs") {
    if (!isObject(row["config"])) return unusable("its config is not a JSON object, or too deep");
    const [key, run, config] = [textOf(row["runId"]), textOf(row["run"]), textOf(row["config"])];
    const carrier = carrierOf(db, schema, key);
    delta.configs.push({ id, key, run, config, carrier } satisfies ConfigRow);
    return size + (carrier ? lengthOf(carrier) : 0);
  }
  if (!row["timestamp"]) return unusable("it has no timestamp");
  const step = row["step"] ?? null;
  if (step !== null && !/^-?\d{1,19}$/.test(String(step))) return unusable("its step is not a number");
  const common = {
    id,
    key: row["key"] ? textOf(row["key"]) : madeUpKey(db, schema, table, row),
    isUnnamed: !row["key"],
    runId: textOf(row["runId"]),
    run: textOf(row["run"]),
    timestamp: textOf(row["timestamp"]),
  };
  if (table === "alerts") {
    const { title, text, level } = row;
    if (title === null || level === null) return unusable("its title or level is missing or too long");
    const words = { title: textOf(title), text: text === null ? null : textOf(text), level: textOf(level) };
    delta.alerts.push({ ...common, ...words, step: step === null ? null : String(BigInt(step)) } satisfies AlertRow);
    return size;
  }
  if (!isObject(row["metrics"])) return unusable("its metrics are not a JSON object, or too deep");
  const measured = { ...common, metrics: textOf(row["metrics"]) };
  if (table === "system_metrics") {
    delta.system_metrics.push(measured satisfies SystemRow);
    return size;
  }
  const traces = tracesOf(schema, common.runId, row["key"] ?? null);
  const tracesSize = lengthOf({ metrics: "", traces });
  if (tracesSize > maxValueBytes)
    return unusable(`its traces have ${tracesSize} characters, more than ${maxValueBytes}`);
  delta.metrics.push({ ...measured, step: String(BigInt(step ?? 0)), traces } satisfies MetricsRow);
  return size + tracesSize;
}

/** Characters of a row's values. */
function lengthOf({ metrics, traces }: Pick<MetricsRow, "metrics" | "traces">): number {
  return traces.reduce(
    (sum, { messages, metadata, spans }) => sum + messages.length + metadata.length + spans.length,
    metrics.length,
  );
}

/** A row of the run: the first that was written, unless steps go backwards. */
function carrierOf(db: DatabaseSync, schema: Schema, runId: string): MetricsRow | null {
  if (!schema.has("metrics")) return null;
  const sql = `${schema.select("metrics", "all").replace(/ORDER BY rowid$/, "")} AND ${schema.runId("metrics")} = ? LIMIT 1`;
  const row = db.prepare(sql).get(0, runId) as Row | undefined;
  if (!row) return null;
  const found: Pick<Delta, "metrics" | "unusable"> = { metrics: [], unusable: [] };
  take(db, schema, "metrics", row, found as Delta);
  return found.metrics[0] ?? null;
}

/** The traces that were logged with a metrics row: their ids begin with those of the run and the row. */
function tracesOf(schema: Schema, runId: string, logId: Value): TraceRow[] {
  if (logId === null) return [];
  const prefix = `${runId}:${logId}`;
  const rows = (schema.traces?.all(`${prefix}:`, `${prefix};`) ?? []) as Row[];
  return rows
    .filter((row) => row["name"] && isJson(row["messages"]) && isObject(row["metadata"]) && isJson(row["spans"]))
    .map((row) => ({
      name: textOf(row["name"]),
      index: row["place"] === null ? null : Number(row["place"]),
      messages: textOf(row["messages"]),
      metadata: textOf(row["metadata"]),
      spans: textOf(row["spans"]),
    }));
}

/**
 * A name for a row that has none, the same at each reading and in each copy of the database: a hash of what it holds, and
 * of how many rows before it hold the same.
 */
function madeUpKey(db: DatabaseSync, schema: Schema, table: Exclude<Table, "configs">, row: Row): string {
  const content = table === "alerts" ? "title" : "metrics";
  const sql = `SELECT COUNT(*) AS n FROM ${table}
    WHERE ${schema.runId(table)} = ? AND timestamp = ? AND rowid < ? AND CAST(${content} AS TEXT) = ?`;
  const same = db.prepare(sql).get(row["runId"] ?? "", row["timestamp"] ?? "", row["id"] ?? 0, row[content] ?? "");
  const parts = [table, row["runId"], row["step"], row["timestamp"], row[content], same?.["n"]];
  return `s-${createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 40)}`;
}

function textOf(value: Value | undefined): string {
  return String(value ?? "");
}

function isObject(value: Value | undefined): boolean {
  return typeof value === "string" && value.trimStart().startsWith("{") && isJson(value);
}

function isJson(value: Value | undefined): boolean {
  const text = textOf(value);
  try {
    JSON.parse(text);
    return !isDeeperThan(maxDepth, text);
  } catch {
    return false;
  }
}

/** Of JSON. */
function isDeeperThan(most: number, text: string): boolean {
  let depth = 0;
  for (const [bracket] of text.replace(/"(?:[^"\\]|\\.)*"/g, "").matchAll(/[[\]{}]/g)) {
    depth += bracket === "[" || bracket === "{" ? 1 : -1;
    if (depth > most) return true;
  }
  return false;
}
