/** What has been sent where, on the syncer's own disk: written after each batch that the server has taken. */
import { randomBytes } from "node:crypto";
import { mkdirSync, renameSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { noPositions, type Position, type Positions, type Table, tables } from "./rows.ts";

/** A run as one destination knows it. */
export interface RunState {
  /** as it is called there: somebody may have renamed it in the dashboard */
  name: string;
  /** as it is called here; a rename writes its rows anew, without their names. "": not known */
  localName: string;
  /** rows of `metrics` yet to come that are there already, under other names */
  skip: number;
  /** true when the server has shown that it has rows of it: if it has none later, somebody deleted it */
  isConfirmed: boolean;
  /** deleted in the dashboard: nothing more of it is sent */
  isDeleted: boolean;
}

/** An image or the like that a row names, to be sent after it. */
export interface MediaFile {
  /** below `media/` */
  path: string;
  runId: string;
  run: string;
  step: string;
}

/** A row that the server does not take. */
export interface RefusedRow {
  table: Table;
  id: number;
  reason: string;
  /** milliseconds since 1970 */
  at: number;
}

/** One database at one destination. */
export interface Progress {
  positions: Positions;
  runs: Map<string, RunState>;
}

const schema = `
  CREATE TABLE IF NOT EXISTS positions (destination TEXT, project TEXT, name TEXT, id INTEGER, key TEXT,
    PRIMARY KEY (destination, project, name)) STRICT;
  CREATE TABLE IF NOT EXISTS runs (destination TEXT, project TEXT, runId TEXT, name TEXT, localName TEXT, skip INTEGER,
    isConfirmed INTEGER, isDeleted INTEGER, PRIMARY KEY (destination, project, runId)) STRICT;
  CREATE TABLE IF NOT EXISTS refused (destination TEXT, project TEXT, name TEXT, id INTEGER, reason TEXT, at INTEGER,
    PRIMARY KEY (destination, project, name, id)) STRICT;
  CREATE TABLE IF NOT EXISTS files (destination TEXT, project TEXT, path TEXT, runId TEXT, run TEXT, step TEXT, isSent INTEGER,
    PRIMARY KEY (destination, project, path)) STRICT;
  CREATE TABLE IF NOT EXISTS fragmentMarks (destination TEXT, project TEXT, writer TEXT, number INTEGER,
    PRIMARY KEY (destination, project, writer)) STRICT;
  CREATE TABLE IF NOT EXISTS inbox (destination TEXT PRIMARY KEY, writer TEXT, number INTEGER, settled INTEGER) STRICT;
  CREATE TABLE IF NOT EXISTS traffic (hour INTEGER PRIMARY KEY, bytes INTEGER) STRICT;
`;

export class Watermarks implements Disposable {
  /** where a file was put that could not be read; undefined: there was none, or it is fine */
  readonly damagedPath: string | undefined;
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  /** of the hour, so that a look that sends nothing need not ask for it */
  #traffic: { hour: number; bytes: number } | undefined;

  /** Opens or makes the file. One that is damaged is kept beside: all is sent again then, and the server has it already. */
  constructor(path: string, isOnVolume = false) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    try {
      this.#db = open(path, isOnVolume);
    } catch {
      this.damagedPath = `${path}.damaged-${Date.now()}`;
      renameSync(path, this.damagedPath);
      this.#db = open(path, isOnVolume);
    }
  }

  progressOf(destination: string, project: string): Progress {
    const positions: Positions = { ...noPositions };
    for (const row of this.#all(
      "SELECT * FROM positions WHERE destination = ? AND project = ?",
      destination,
      project,
    )) {
      const name = String(row["name"]) as Table;
      if (tables.includes(name)) positions[name] = { id: Number(row["id"]), key: String(row["key"]) };
    }
    const found = this.#all("SELECT * FROM runs WHERE destination = ? AND project = ?", destination, project);
    const runs = found.map((row): [string, RunState] => [
      String(row["runId"]),
      {
        name: String(row["name"]),
        localName: String(row["localName"]),
        skip: Number(row["skip"]),
        isConfirmed: row["isConfirmed"] === 1,
        isDeleted: row["isDeleted"] === 1,
      },
    ]);
    return { positions, runs: new Map(runs) };
  }

  /** One step forward, whole or not at all; on disk when it returns. */
  save(change: {
    destination: string;
    project: string;
    position?: [Table, Position];
    runs?: Iterable<[runId: string, run: RunState]>;
    refused?: readonly RefusedRow[];
    files?: readonly MediaFile[];
  }): void {
    const { destination, project, position, runs = [], refused = [], files = [] } = change;
    this.#transaction(() => {
      if (position) {
        const [table, { id, key }] = position;
        this.#run("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)", destination, project, table, id, key);
      }
      for (const [runId, { name, localName, skip, isConfirmed, isDeleted }] of runs) {
        const values = [destination, project, runId, name, localName, skip, isConfirmed ? 1 : 0, isDeleted ? 1 : 0];
        this.#run("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", ...values);
      }
      for (const { path, runId, run, step } of files) {
        const values = [destination, project, path, runId, run, step];
        this.#run("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?, 0)", ...values);
      }
      for (const { table, id, reason, at } of refused) {
        this.#run(
          "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?, ?)",
          destination,
          project,
          table,
          id,
          reason,
          at,
        );
      }
    });
  }

  /** Forgets where we were in a database, but not which of its runs were deleted. */
  rewind(destination: string, project: string): void {
    this.#transaction(() => {
      for (const table of ["positions", "refused"]) {
        this.#run(`DELETE FROM ${table} WHERE destination = ? AND project = ?`, destination, project);
      }
      const set = "UPDATE runs SET localName = '', skip = 0, isConfirmed = 0";
      this.#run(`${set} WHERE destination = ? AND project = ?`, destination, project);
    });
  }

  refusedRows(destination: string, project: string): RefusedRow[] {
    const found = this.#all("SELECT * FROM refused WHERE destination = ? AND project = ?", destination, project);
    return found.map((row) => ({
      table: String(row["name"]) as Table,
      id: Number(row["id"]),
      reason: String(row["reason"]),
      at: Number(row["at"]),
    }));
  }

  dropRefused(destination: string, project: string, { table, id }: RefusedRow): void {
    const where = "destination = ? AND project = ? AND name = ? AND id = ?";
    this.#run(`DELETE FROM refused WHERE ${where}`, destination, project, table, id);
  }

  /** The last row of metrics that the server had when both sides were compared. */
  anchorOf(destination: string, project: string): Position {
    const sql = "SELECT * FROM positions WHERE destination = ? AND project = ? AND name = 'server'";
    const [row] = this.#all(sql, destination, project);
    return { id: Number(row?.["id"] ?? 0), key: String(row?.["key"] ?? "") };
  }

  saveAnchor(destination: string, project: string, { id, key }: Position): void {
    this.#run("INSERT OR REPLACE INTO positions VALUES (?, ?, 'server', ?, ?)", destination, project, id, key);
  }

  waitingFiles(destination: string, project: string): MediaFile[] {
    const sql = "SELECT * FROM files WHERE destination = ? AND project = ? AND isSent = 0 ORDER BY rowid LIMIT 100";
    return this.#all(sql, destination, project).map((row) => ({
      path: String(row["path"]),
      runId: String(row["runId"]),
      run: String(row["run"]),
      step: String(row["step"]),
    }));
  }

  /** Sent, or given up: they do not wait any more. */
  settleFiles(destination: string, project: string, files: readonly MediaFile[]): void {
    const sql = "UPDATE files SET isSent = 1 WHERE destination = ? AND project = ? AND path = ?";
    this.#transaction(() => {
      for (const { path } of files) this.#run(sql, destination, project, path);
    });
  }

  /** Number of the last fragment of a writer of which the destination has the project's rows; -1: none. */
  fragmentOf(destination: string, project: string, writer: string): number {
    const sql = "SELECT number FROM fragmentMarks WHERE destination = ? AND project = ? AND writer = ?";
    const [row] = this.#all(sql, destination, project, writer);
    return Number(row?.["number"] ?? -1);
  }

  saveFragment(destination: string, project: string, writer: string, number: number): void {
    this.#run("INSERT OR REPLACE INTO fragmentMarks VALUES (?, ?, ?, ?)", destination, project, writer, number);
  }

  /** Of a destination's inbox: our name there, the number of the next file, and below which number none waits any more. */
  inboxOf(destination: string): { writer: string; number: number; settled: number } {
    const [row] = this.#all("SELECT * FROM inbox WHERE destination = ?", destination);
    const { writer = "", number = 0, settled = 0 } = row ?? {};
    return { writer: String(writer), number: Number(number), settled: Number(settled) };
  }

  /** A number that no file has had, also when this is the last that happens. */
  takeInboxNumber(destination: string): { writer: string; number: number } {
    const name = randomBytes(8).toString("hex");
    this.#run("INSERT OR IGNORE INTO inbox VALUES (?, ?, 0, 0)", destination, name);
    const sql = "UPDATE inbox SET number = number + 1 WHERE destination = ? RETURNING writer, number - 1 AS number";
    const [row] = this.#all(sql, destination);
    return { writer: String(row?.["writer"]), number: Number(row?.["number"]) };
  }

  settleInbox(destination: string, settled: number): void {
    this.#run("UPDATE inbox SET settled = ? WHERE destination = ?", settled, destination);
  }

  /** Bytes that have left in the hour that `now`, in milliseconds since 1970, lies in. */
  sentInHour(now: number): number {
    const hour = hourOf(now);
    if (this.#traffic?.hour !== hour) {
      const [row] = this.#all("SELECT bytes FROM traffic WHERE hour = ?", hour);
      this.#traffic = { hour, bytes: Number(row?.["bytes"] ?? 0) };
    }
    return this.#traffic.bytes;
  }

  /** Before they leave: what a crash interrupts has been counted. */
  countSent(now: number, bytes: number): void {
    this.#traffic = { hour: hourOf(now), bytes: this.sentInHour(now) + bytes };
    const sql = "INSERT INTO traffic VALUES (?, ?) ON CONFLICT (hour) DO UPDATE SET bytes = bytes + excluded.bytes";
    this.#run(sql, hourOf(now), bytes);
    this.#run("DELETE FROM traffic WHERE hour < ?", hourOf(now) - 24);
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }

  #transaction(change: () => void): void {
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      change();
      this.#db.exec("COMMIT");
    } catch (error) {
      this.#db.exec("ROLLBACK");
      throw error;
    }
  }

  #all(sql: string, ...values: (string | number)[]): Record<string, unknown>[] {
    return this.#prepared(sql).all(...values);
  }

  #run(sql: string, ...values: (string | number)[]): void {
    this.#prepared(sql).run(...values);
  }

  #prepared(sql: string): StatementSync {
    const prepared = this.#statements.get(sql) ?? this.#db.prepare(sql);
    this.#statements.set(sql, prepared);
    return prepared;
  }
}

function open(path: string, isOnVolume: boolean): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: 5000 });
  try {
    // a distant volume may have no memory that processes share, and is committed file by file: there, all is in one file
    db.exec(isOnVolume ? "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE" : "PRAGMA journal_mode = WAL");
    // FULL: a batch is behind us even when the power goes right after
    db.exec(`PRAGMA synchronous = FULL; ${schema}`);
    const [check] = db.prepare("PRAGMA quick_check(1)").all();
    if (check?.["quick_check"] !== "ok") throw new Error("damaged");
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function hourOf(now: number): number {
  return Math.floor(now / 3_600_000);
}
