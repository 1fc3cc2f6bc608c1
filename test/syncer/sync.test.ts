/** From a folder that the real trackio writes to a server that the real trackio runs: every row once, whatever happens. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { Secret } from "../../src/secret.ts";
import { Syncer, type SyncerOptions } from "../../src/syncer/syncer.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import {
  hfToken,
  installTrackio,
  python,
  type RunningTrackio,
  startTrackio,
  type Version,
  versions,
  writeToken,
} from "./trackio.ts";

const newest = "0.43.0";
const quiet = "auto_log_gpu=False, auto_log_cpu=False";

/** What trackio's users log: three projects, two of them at the same time, with all kinds of values. */
const busyProgram = `
import threading, struct, zlib, math
def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\\0\\0\\0\\0")) + chunk(b"IEND", b"")
import os
path = os.path.join(os.environ["HOME"], "dot.png"); open(path, "wb").write(png)
for project in ("first one", "second", "third"):
    run = trackio.init(project=project, name="run", config={"lr": 0.1, "big": 2**60, "names": ["a", "ü"]}, ${quiet})
    for i in range(40):
        trackio.log({"loss": 1 / (i + 1), "nan": math.nan, "inf": -math.inf, "deep": {"a": {"b": i}}, "word": "x"})
    trackio.log({"big": 2**60 + 1, "tiny": 1e-300})
    trackio.log({"trace": trackio.Trace(messages=[{"role": "user", "content": "hi"}], metadata={"n": 1}), "loss": 3})
    trackio.log({"traces": [trackio.Trace(messages=[{"role": "user", "content": str(n)}]) for n in range(2)]})
    trackio.log({"image": trackio.Image(path)}, step=500)
    trackio.log_system({"gpu": 0.5})
    trackio.alert(title="careful", text="it rises", level=trackio.AlertLevel.WARN)
    trackio.finish()
`;

/** Each row of a database without what a server makes itself: places, and the times of metrics (see docs/metrics.md). */
function rowsOf(path: string): Record<string, unknown[]> {
  // a Space keeps its database locked for itself; nobody writes now
  const copy = `${path}.copy`;
  copyFileSync(path, copy);
  if (existsSync(`${path}-wal`)) copyFileSync(`${path}-wal`, `${copy}-wal`);
  const db = new DatabaseSync(copy);
  const queries = {
    metrics: "SELECT run_id, run_name, step, CAST(metrics AS TEXT) AS metrics, log_id FROM metrics ORDER BY log_id",
    system_metrics: `SELECT run_id, run_name, timestamp, CAST(metrics AS TEXT) AS metrics, log_id FROM system_metrics
      ORDER BY log_id`,
    alerts: "SELECT run_id, run_name, timestamp, title, text, level, step, alert_id FROM alerts ORDER BY alert_id",
    configs: "SELECT run_id, run_name, CAST(config AS TEXT) AS config FROM configs ORDER BY run_id",
    traces: `SELECT id, run_id, run_name, step, key, trace_index, CAST(messages AS TEXT) AS messages,
      CAST(metadata AS TEXT) AS metadata FROM traces ORDER BY id`,
  };
  try {
    return Object.fromEntries(Object.entries(queries).map(([table, sql]) => [table, db.prepare(sql).all()]));
  } finally {
    db.close();
  }
}

interface Setting {
  folder: string;
  statePath: string;
}

function syncerTo(address: string, { folder, statePath }: Setting, changes: Partial<SyncerOptions> = {}): Syncer {
  return new Syncer({
    ...{ folder, statePath, access: "live", maxBytesPerHour: 2 ** 30, withMedia: true, spaces: [] },
    ...{ server: address, writeToken: new Secret(writeToken) },
    ...changes,
  });
}

/** Whether the version is here; otherwise the test is skipped, with the reason. */
async function isInstalled(version: Version, context: TestContext): Promise<boolean> {
  const reason = await installTrackio(version);
  if (reason !== undefined) context.skip(reason);
  return reason === undefined;
}

function assertEqual(local: string, remote: string, projects: readonly string[]): void {
  for (const project of projects) {
    const [here, there] = [local, remote].map((folder) => rowsOf(join(folder, `${project}.db`)));
    assert.deepEqual(there, here, project);
    assert.ok((here?.["metrics"]?.length ?? 0) > 0);
  }
}

for (const version of Object.keys(versions) as Version[]) {
  for (const mode of ["own", "space"] as const) {
    test(`every row reaches a server of trackio ${version} once (${mode})`, async (context) => {
      if (!(await isInstalled(version, context))) return;
      await using local = await temporaryFolder();
      await using remote = await temporaryFolder();
      await python(version, local.path, busyProgram);
      await using server = await startTrackio(version, mode, remote.path);
      const setting = { folder: local.path, statePath: join(remote.path, "state/sync.db") };
      const toSpace: Partial<SyncerOptions> = {
        ...{ server: undefined, spaces: ["acme/metrics"], hfToken: new Secret(hfToken), spaceAddress: server.address },
      };
      const changes = mode === "space" ? toSpace : {};
      await using syncer = syncerTo(server.address, setting, changes);
      const status = await syncer.poll(true);
      assert.deepEqual(
        status.projects.map(({ error, waiting, problems }) => [error, waiting, problems]),
        [0, 1, 2].map(() => [null, 0, []]),
      );
      assertEqual(local.path, remote.path, ["firstone", "second", "third"]);
      const images = execFileSync("find", [join(remote.path, "media"), "-name", "*.png"], { encoding: "utf8" });
      assert.equal(images.trim().split("\n").length, 3);
      // the watermarks are lost: all is sent again, and nothing is there twice
      rmSync(join(remote.path, "state"), { recursive: true });
      await using again = syncerTo(server.address, setting, changes);
      await again.poll(true);
      assertEqual(local.path, remote.path, ["firstone", "second", "third"]);
    });
  }
}

test("rows that trackio wrote as JSON lines reach the server once", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, threeRuns + oneAlert, { TRACKIO_STORAGE_MODE: "jsonl" });
  await using server = await startTrackio(newest, "own", remote.path);
  const setting = { folder: local.path, statePath: join(remote.path, "state/sync.db") };
  for (let round = 0; round < 2; round += 1) {
    await using syncer = syncerTo(server.address, setting);
    const { projects } = await syncer.poll(true);
    assert.deepEqual(
      projects.map(({ error, problems }) => [error, problems]),
      [[null, []]],
    );
    // what was sent is forgotten, and sent again
    rmSync(join(remote.path, "state"), { recursive: true });
  }
  assert.deepEqual(runsOf(remote.path), { kept: 5, renamed: 5, deleted: 5, alerted: 1 });
  const { alerts, system_metrics: system, configs } = rowsOf(join(remote.path, "p.db"));
  assert.deepEqual([alerts?.length, system?.length, configs?.length], [1, 1, 4]);
});

const threeRuns = `
for name in ("kept", "renamed", "deleted"):
    trackio.init(project="p", name=name, ${quiet})
    for i in range(5): trackio.log({"loss": i})
    trackio.finish()
`;
const oneAlert = `
trackio.init(project="p", name="alerted", config={"a": 1}, ${quiet})
trackio.log({"loss": 1}); trackio.log_system({"gpu": 1}); trackio.alert(title="careful", text="x")
trackio.finish()
`;
const moreOf = (name: string) => `
trackio.init(project="p", name="${name}", resume="must", ${quiet})
for i in range(3): trackio.log({"loss": 10 + i})
trackio.finish()
`;

test("what is renamed or deleted in the dashboard stays so", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, threeRuns);
  await using server = await startTrackio(newest, "own", remote.path);
  const setting = { folder: local.path, statePath: join(remote.path, "state/sync.db") };
  await using syncer = syncerTo(server.address, setting);
  await syncer.poll(true);
  await server.call("rename_run", { project: "p", old_name: "renamed", new_name: "better" });
  await server.call("delete_run", { project: "p", run: "deleted" });
  await syncer.poll(true);
  await python(newest, local.path, moreOf("renamed") + moreOf("deleted") + moreOf("kept"));
  await syncer.poll(true);
  assert.deepEqual(runsOf(remote.path), { kept: 8, better: 8 });
  // a syncer that knows nothing adds no row twice to what was renamed
  rmSync(join(remote.path, "state"), { recursive: true });
  await using again = syncerTo(server.address, setting);
  await again.poll(true);
  assert.equal(runsOf(remote.path)["better"], 8);
});

test("a rename in the sandbox sends no row twice", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, threeRuns);
  await using server = await startTrackio(newest, "own", remote.path);
  await using syncer = syncerTo(server.address, { folder: local.path, statePath: join(remote.path, "state/sync.db") });
  await syncer.poll(true);
  const rename = (from: string, to: string) =>
    `from trackio.sqlite_storage import SQLiteStorage\nSQLiteStorage.rename_run("p", "${from}", "${to}")\n`;
  await python(newest, local.path, rename("kept", "first") + moreOf("first") + rename("deleted", "last"));
  await syncer.poll(true);
  assert.deepEqual(runsOf(remote.path), { kept: 8, renamed: 5, deleted: 5 });
});

function runsOf(folder: string): Record<string, number> {
  const db = new DatabaseSync(join(folder, "p.db"), { readOnly: true });
  const rows = db.prepare("SELECT run_name AS name, COUNT(*) AS n FROM metrics GROUP BY run_name").all();
  db.close();
  return Object.fromEntries(rows.map((row) => [String(row["name"]), Number(row["n"])]));
}

/** Stands before a server and spoils answers: refused, failed, or lost after the server has taken the rows. */
async function faultyFront(server: RunningTrackio, spoil: () => "pass" | "500" | "cut" | "lost") {
  const front = createServer((incoming: IncomingMessage, response: ServerResponse) => {
    const fault = incoming.url === "/version" ? "pass" : spoil();
    if (fault === "cut") return incoming.socket.destroy();
    if (fault === "500") return response.writeHead(500).end('{"error":"database is locked"}');
    const target = new URL(incoming.url ?? "/", server.address);
    const outgoing = request(target, { method: incoming.method ?? "GET", headers: incoming.headers }, (answer) => {
      if (fault === "lost") return answer.resume().once("end", () => incoming.socket.destroy());
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    incoming.pipe(outgoing);
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => front.once("listening", resolve));
  return {
    address: `http://127.0.0.1:${(front.address() as AddressInfo).port}/`,
    async [Symbol.asyncDispose]() {
      front.closeAllConnections();
      await new Promise((resolve) => front.close(resolve));
    },
  };
}

test("failures of the network and of the server, also after it took the rows, lose and double nothing", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, busyProgram);
  await using server = await startTrackio(newest, "own", remote.path);
  let seed = 7;
  const faults = { pass: 0, "500": 0, cut: 0, lost: 0 };
  let isCalm = false;
  await using front = await faultyFront(server, () => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    const fault = isCalm ? "pass" : ((["pass", "500", "cut", "lost"] as const)[(seed >> 16) % 4] ?? "pass");
    faults[fault] += 1;
    return fault;
  });
  const setting = { folder: local.path, statePath: join(remote.path, "state/sync.db") };
  for (let round = 0; round < 40; round += 1) {
    // each round is a syncer that starts anew, as after a crash
    await using syncer = syncerTo(front.address, setting);
    await syncer.poll(true);
  }
  isCalm = true;
  await using syncer = syncerTo(front.address, setting);
  const status = await syncer.poll(true);
  assert.deepEqual(
    status.projects.map(({ error, waiting }) => [error, waiting]),
    [0, 1, 2].map(() => [null, 0]),
  );
  assertEqual(local.path, remote.path, ["firstone", "second", "third"]);
  assert.ok(
    Object.values(faults).every((count) => count > 3),
    JSON.stringify(faults),
  );
});

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

test("a token goes to no Space that was not allowed, and no answer of a server shows it", async (context) => {
  await using local = await temporaryFolder();
  const seen: IncomingMessage[] = [];
  const server = createServer((incoming, response) => {
    seen.push(incoming);
    response.writeHead(500, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: `you sent ${incoming.headers.authorization}` }));
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const db = new DatabaseSync(join(local.path, "p.db"));
  db.exec("CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_name TEXT, timestamp TEXT, metrics TEXT)");
  db.close();
  const options = { server: undefined, hfToken: new Secret(hfToken), spaceAddress: address };
  const setting = { folder: local.path, statePath: join(local.path, "state/sync.db") };
  for (const spaceId of ["evil/metrics", "https://evil.example/", "../acme/metrics", "acme/metrics/x", "acme/ünï"]) {
    writeFileSync(join(local.path, "space_id"), spaceId);
    await using syncer = syncerTo(address, setting, { ...options, spaces: ["acme/metrics", "friends/*"] });
    const { projects } = await syncer.poll(true);
    assert.match(projects[0]?.error ?? "", /is not allowed|not of the form owner\/name/, spaceId);
  }
  assert.equal(seen.length, 0);
  writeFileSync(join(local.path, "space_id"), "friends/plots");
  await using syncer = syncerTo(address, setting, { ...options, spaces: ["acme/metrics", "friends/*"] });
  const status = await syncer.poll(true);
  assert.equal(seen[0]?.headers.authorization, `Bearer ${hfToken}`);
  assert.ok(!JSON.stringify(status).includes(hfToken));
  assert.match(status.projects[0]?.error ?? "", /words that hold the token/);
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
