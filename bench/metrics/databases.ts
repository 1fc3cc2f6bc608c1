/** trackio databases of any size in a moment: trackio makes the tables, and rows like its own are put in with SQLite. */
import { randomUUID } from "node:crypto";
import { copyFileSync, mkdirSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { python } from "../../test/syncer/trackio.ts";
import { trackioVersion } from "./versions.ts";

/** values of a row that logs a few numbers, in bytes of JSON; about what one step of a training run has */
const usualNames = ["loss", "accuracy", "grad_norm", "learning_rate", "epoch"];
/** and of one that logs many */
const manyNames = Array.from({ length: 60 }, (_unused, index) => `layers.${index}.weight_norm`);

/** Has trackio make a database with one run, whose rows are taken out again; returns its path. */
export async function emptyDatabase(folder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const code = `
trackio.init(project="empty", name="run", config={"lr": 0.1}, auto_log_gpu=False, auto_log_cpu=False)
trackio.log({"loss": 1.0})
trackio.finish()`;
  await python(trackioVersion, folder, code);
  return join(folder, "empty.db");
}

/** Appends rows to the one run of a database whose writer has closed it. */
export function appendRows(path: string, count: number): void {
  withDatabase(path, (db) => append(db, count, usualNames));
}

/** A copy of a database that has so many rows. */
export function databaseOfRows(empty: string, path: string, rows: number): void {
  copyOf(empty, path);
  withDatabase(path, (db) => {
    append(db, rows, usualNames);
    // the one that trackio wrote
    db.exec("DELETE FROM metrics WHERE id = (SELECT MIN(id) FROM metrics)");
  });
}

/** A copy of a database that has at least so many bytes, in rows of many values. */
export function databaseOfBytes(empty: string, path: string, bytes: number): void {
  copyOf(empty, path);
  withDatabase(path, (db) => {
    const size = db.prepare("SELECT page_count * page_size AS bytes FROM pragma_page_count(), pragma_page_size()");
    while (Number(size.get()?.["bytes"]) < bytes) append(db, 5000, manyNames);
  });
}

/** Puts a copy where the syncer looks, whole, as the publisher does. */
export function putCopy(from: string, to: string): void {
  const draft = `${to}.draft`;
  copyFileSync(from, draft);
  renameSync(draft, to);
}

function copyOf(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

function withDatabase(path: string, change: (db: DatabaseSync) => void): void {
  const db = new DatabaseSync(path);
  try {
    db.exec("PRAGMA synchronous = OFF; BEGIN");
    change(db);
    db.exec("COMMIT");
  } finally {
    // the last one to close it brings the log into the file
    db.close();
  }
}

function append(db: DatabaseSync, count: number, names: readonly string[]): void {
  const last = db.prepare("SELECT run_id AS id, run_name AS name, step FROM metrics ORDER BY id DESC LIMIT 1").get();
  const insert = db.prepare(
    "INSERT INTO metrics (timestamp, run_id, run_name, step, metrics, log_id) VALUES (?, ?, ?, ?, ?, ?)",
  );
  const now = new Date().toISOString().replace("Z", "000+00:00");
  for (let step = Number(last?.["step"]) + 1, end = step + count; step < end; step += 1) {
    const metrics = JSON.stringify(Object.fromEntries(names.map((name) => [name, Math.random()])));
    const key = randomUUID().replaceAll("-", "");
    insert.run(now, String(last?.["id"]), String(last?.["name"]), step, Buffer.from(metrics), key);
  }
}
