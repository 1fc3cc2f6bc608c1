/** Files that a sandbox could leave in the folder. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { listFolder } from "../../src/syncer/trackio-folder.ts";
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

test("media that is a link, or names another project's files or none, brings out nothing that is not of the project", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await using secrets = await temporaryFolder();
  writeFileSync(join(secrets.path, "HF_TOKEN"), "the token of the syncer");
  mkdirSync(join(remote.path, "own"));
  symlinkSync(secrets.path, join(local.path, "media"));
  const image = (path: string) => `{"_type":"trackio.image","file_path":"${path}"}`;
  const many = Array.from({ length: 20_000 }, (_, index) => image(`evil/${index}`)).join(",");
  const db = new DatabaseSync(join(local.path, "evil.db"));
  db.exec(`CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER,
    log_id TEXT, metrics TEXT)`);
  const insert = db.prepare("INSERT INTO metrics VALUES (?, 'r', 't', 'r', 0, ?, ?)");
  for (const [index, path] of ["HF_TOKEN", "../media/HF_TOKEN", "/etc/passwd", "good/r/0/dot.png"].entries()) {
    insert.run(index + 1, `l${index}`, `{"image":${image(path)}}`);
  }
  insert.run(9, "l9", `{"images":[${many}]}`);
  db.close();
  await using server = await startTrackio(newest, "own", join(remote.path, "own"));
  await using syncer = syncerTo(server.address, { folder: local.path, statePath: join(remote.path, "state/sync.db") });
  const { projects } = await syncer.poll(true);
  assert.deepEqual([projects[0]?.error, projects[0]?.waiting, projects[0]?.sent], [null, 0, 5]);
  assert.ok(!existsSync(join(remote.path, "own/media")), "something was sent");
});

test("names of projects and runs that look like a server's complaints stop nothing", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  const run = (project: string, name: string) =>
    `trackio.init(project="${project}", name="${name}", auto_log_gpu=False, auto_log_cpu=False); trackio.log({"a": 1}); trackio.finish()\n`;
  const names = ["exp-429", "HF_TOKEN", "whoami", "write_token", "good"];
  await python(newest, local.path, names.map((name) => run(name, "rate limit hf_token 429")).join(""));
  await using server = await startTrackio(newest, "own", remote.path);
  await using syncer = syncerTo(server.address, { folder: local.path, statePath: join(remote.path, "state/sync.db") });
  const { projects } = await syncer.poll(true);
  assert.deepEqual(
    projects.map(({ error, sent, waiting }) => [error, sent, waiting]),
    names.map(() => [null, 1, 0]),
  );
});

test("a project with thousands of runs is compared in pages, and keeps no other one waiting", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, threeRuns);
  const db = new DatabaseSync(join(local.path, "many.db"));
  db.exec(`CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER,
      log_id TEXT, metrics TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4500)
    INSERT INTO metrics SELECT i, 'r' || i, 't', printf('%.*c', 1000, 'n') || i, 0, 'l' || i, '{"a":1}' FROM n`);
  db.close();
  await using server = await startTrackio(newest, "own", remote.path);
  await using syncer = syncerTo(server.address, { folder: local.path, statePath: join(remote.path, "state/sync.db") });
  const { projects } = await syncer.poll(true);
  assert.deepEqual(
    projects.map(({ error, waiting, sent }) => [error, waiting, sent]),
    [
      [null, 0, 4500],
      [null, 0, 15],
    ],
  );
});

test("a folder that cannot be read is named, and the others go on", async (context) => {
  if (process.getuid?.() === 0) {
    if (isClosed(import.meta.filename) || isClosed(process.execPath)) {
      return context.skip("the checkout lies in a folder that is closed to other users");
    }
    // root reads everything: as the user that the syncer has in a session
    const { status, stderr } = spawnSync(
      process.execPath,
      ["--test-reporter=spec", "--test", "--test-name-pattern", "a folder that cannot be read", import.meta.filename],
      {
        ...{ uid: 61102, gid: 61102, encoding: "utf8" },
        env: { PATH: process.env["PATH"], HOME: "/tmp" },
      },
    );
    assert.equal(status, 0, stderr);
    return;
  }
  await using local = await temporaryFolder();
  mkdirSync(join(local.path, "inbox/w"), { recursive: true });
  mkdirSync(join(local.path, "spaces"));
  writeFileSync(join(local.path, "p.db"), "x");
  for (const path of ["inbox/w", "spaces"]) chmodSync(join(local.path, path), 0);
  const listing = listFolder(local.path);
  for (const path of ["inbox/w", "spaces"]) chmodSync(join(local.path, path), 0o755);
  assert.deepEqual(
    listing.databases.map(({ project }) => project),
    ["p"],
  );
  assert.deepEqual([...listing.problems.keys()].sort(), ["inbox/w", "spaces"]);
  context.diagnostic(`as user ${process.getuid?.()}`);
});

test("fragments of any size, number and project are sent once, to each destination, and keep no other waiting", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  const record = (project: string, index: number, value: string) =>
    `${JSON.stringify({ kind: "metric", project, run: "r", run_id: `${project}-r`, step: index, timestamp: "2026-01-01T00:00:00+00:00", log_id: `${project}-${index}`, metrics: { a: value } })}\n`;
  const put = (writer: string, number: number, content: string) => {
    mkdirSync(join(local.path, "inbox", writer), { recursive: true });
    writeFileSync(join(local.path, "inbox", writer, `${String(number).padStart(8, "0")}.jsonl`), content);
  };
  const large = "x".repeat(4_000_000);
  for (let number = 0; number < 60; number += 1) {
    put(
      "w",
      number,
      record("big", 2 * number, large) + record("big", 2 * number + 1, "small") + record("lost", number, "x"),
    );
  }
  put("w", 60, record("good", 1, "x"));
  put("v", 0, record("good", 2, "x"));
  mkdirSync(join(local.path, "spaces"));
  const folders = ["one", "two"].map((name) => join(remote.path, name));
  const counts: unknown[] = [];
  for (const folder of folders) {
    await using server = await startTrackio(newest, "own", folder);
    // the same watermarks serve both
    await using syncer = syncerTo(server.address, {
      folder: local.path,
      statePath: join(remote.path, "state/sync.db"),
    });
    const first = await syncer.poll(true);
    const second = await syncer.poll(true);
    const sentOf = ({ projects }: typeof first) => projects.reduce((sum, { sent }) => sum + sent, 0);
    counts.push([sentOf(first), sentOf(second), second.projects.map(({ error }) => error)]);
    const db = new DatabaseSync(join(folder, "big.db"), { readOnly: true });
    assert.equal(db.prepare("SELECT COUNT(*) AS n FROM metrics").get()?.["n"], 120);
    db.close();
  }
  assert.deepEqual(counts, [
    [182, 182, [null, null, null]],
    [182, 182, [null, null, null]],
  ]);
});

/** Whether another user cannot walk to the file. */
function isClosed(path: string): boolean {
  for (let folder = dirname(path); folder !== "/"; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return true;
  }
  return false;
}
