/** Files that a sandbox could leave in the folder. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest, rowsOf, runsOf, syncerTo, threeRuns } from "./runs.ts";
import { python, startTrackio } from "./trackio.ts";

test("a hostile file is named with its fault, and the others go on", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, threeRuns);
  const make = (name: string, sql: string) => {
    const db = new DatabaseSync(join(local.path, `${name}.db`));
    db.exec(sql);
    db.close();
  };
  const columns = "id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER, log_id TEXT";
  symlinkSync("/etc/passwd", join(local.path, "link.db"));
  execFileSync("mkfifo", [join(local.path, "fifo.db")]);
  writeFileSync(join(local.path, "empty.db"), "");
  writeFileSync(join(local.path, "rubbish.db"), "x".repeat(8192));
  writeFileSync(join(local.path, "bad name!.db"), "");
  make("view", "CREATE TABLE t (a); CREATE VIEW metrics AS SELECT * FROM t");
  make("computed", `CREATE TABLE metrics (${columns}, metrics TEXT AS (hex(zeroblob(1000000000))))`);
  make("other", "CREATE TABLE t (a)");
  make(
    "odd",
    `CREATE TABLE metrics (${columns}, metrics TEXT); INSERT INTO metrics VALUES
    (1, 'r', '2026-01-01T00:00:00+00:00', 'r', 0, 'a', '[1]'), (2, 'r', 't', 'r', 'seven', 'b', '{}'),
    (3, 'r', '2026-01-01T00:00:00+00:00', 'r', 0, 'c', printf('{"a":"%.*c"}', 5000000, 'x')),
    (4, 'r', '2026-01-01T00:00:00+00:00', 'r', 0, 'd', '{"fine":1}')`,
  );
  await using server = await startTrackio(newest, "own", remote.path);
  await using syncer = syncerTo(server.address, { folder: local.path, statePath: join(remote.path, "state/sync.db") });
  const { projects, problems } = await syncer.poll(true);
  const errors = Object.fromEntries(projects.map(({ project, error }) => [project, error]));
  assert.equal(errors["p"], null);
  assert.match(errors["view"] ?? "", /view\.db cannot be read: its "metrics" is not a plain table/);
  assert.match(errors["computed"] ?? "", /computed columns/);
  assert.match(errors["empty"] ?? "", /it is empty/);
  assert.match(errors["rubbish"] ?? "", /not a database/);
  assert.match(errors["other"] ?? "", /no table of trackio's/);
  assert.deepEqual(problems.sort(), [
    "bad name!.db: its name is none that trackio gives",
    "fifo.db: it is not a regular file",
    "link.db: it is not a regular file",
  ]);
  const odd = projects.find(({ project }) => project === "odd");
  assert.deepEqual([odd?.sent, odd?.error, odd?.problems.length], [1, null, 3]);
  assert.deepEqual(runsOf(remote.path), { kept: 5, renamed: 5, deleted: 5 });
});

test("configs whose runs have large rows all come, a few at a time", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  const db = new DatabaseSync(join(local.path, "p.db"));
  db.exec(`CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER,
      log_id TEXT, metrics TEXT);
    CREATE TABLE configs (id INTEGER PRIMARY KEY, run_id TEXT, run_name TEXT, config TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)
    INSERT INTO metrics SELECT i, 'r' || i, 't', 'r' || i, 0, 'l' || i, printf('{"a":"%.*c"}', 3900000, 'x') FROM n;
    INSERT INTO configs SELECT id, run_id, run_name, '{"lr":1}' FROM metrics`);
  await using server = await startTrackio(newest, "own", remote.path);
  const setting = { folder: local.path, statePath: join(remote.path, "state/sync.db") };
  await using syncer = syncerTo(server.address, setting);
  await syncer.poll(true);
  // each config is written anew when all rows have been sent
  db.exec("UPDATE configs SET id = id + 1000, config = '{\"lr\":2}'");
  db.close();
  const { projects } = await syncer.poll(true);
  assert.deepEqual(
    projects.map(({ error, waiting, problems }) => [error, waiting, problems]),
    [[null, 0, []]],
  );
  const { metrics, configs } = rowsOf(join(remote.path, "p.db"));
  assert.equal(metrics?.length, 30);
  assert.deepEqual(
    configs?.map((row) => (row as { config: string }).config),
    configs?.map(() => '{"lr":2}'),
  );
  assert.equal(configs?.length, 30);
});
