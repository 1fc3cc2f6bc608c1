/** The demo's trackio server between the real ones: trackio's own client logs into it, and trackio reads what it keeps. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { startTrackioServer, type TrackioServer } from "../../src/demo/trackio-server.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { busyProgram, isInstalled, newest, quiet, rowsOf, syncerTo } from "../syncer/runs.ts";
import { python, startTrackio, type Version, versions, writeToken } from "../syncer/trackio.ts";

/** A server in a folder of its own, which goes with it. */
async function demoServer(): Promise<TrackioServer> {
  const folder = await temporaryFolder();
  const server = await startTrackioServer({ folder: folder.path, writeToken });
  return {
    ...server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const toServer = ({ address }: TrackioServer) => `server_url="${address}?write_token=${writeToken}"`;

const everyKind = (server: TrackioServer) => `
import math
trackio.init(project="my project", name="run", config={"lr": 0.1, "big": 2**60 + 1}, ${toServer(server)}, ${quiet})
for i in range(20): trackio.log({"loss": 1 / (i + 1), "whole": 1.0, "nan": math.nan, "big": 2**60 + 1})
trackio.log({"trace": trackio.Trace(messages=[{"role": "user", "content": "Hello"}])}, step=30)
trackio.log_system({"gpu": 0.5})
trackio.alert(title="careful", text="it rises", level=trackio.AlertLevel.WARN)
trackio.finish()
`;

const readBack = `
from trackio.sqlite_storage import SQLiteStorage
import json
logs = SQLiteStorage.get_logs("my project", "run")
print(json.dumps([len(logs), logs[1]["loss"], logs[1]["big"], str(logs[1]["nan"]), SQLiteStorage.get_projects(),
  SQLiteStorage.get_runs("my project"), len(SQLiteStorage.get_system_logs("my project", "run")),
  SQLiteStorage.get_alerts("my project")[0]["title"], len(SQLiteStorage.get_traces("my project", "run", search="hello"))]))
`;

for (const version of Object.keys(versions) as Version[]) {
  test(`what the client of trackio ${version} logs is there, and trackio reads it`, async (context) => {
    if (!(await isInstalled(version, context))) return;
    await using local = await temporaryFolder();
    await using server = await demoServer();
    await python(version, local.path, everyKind(server));
    const { metrics, system_metrics: system, alerts, configs, traces } = rowsOf(join(server.folder, "myproject.db"));
    const rows = metrics as { step: number; metrics: string }[];
    const inOrder = rows.toSorted((one, other) => one.step - other.step);
    assert.deepEqual(
      inOrder.map(({ step, metrics }) => [step, metrics]),
      [
        ...Array.from({ length: 20 }, (_, i) => [i, JSON.stringify(1 / (i + 1))]).map(([step, loss]) => [
          ...[step, `{"loss":${loss === "1" ? "1.0" : loss},"whole":1.0,"nan":"NaN","big":1152921504606846977}`],
        ]),
        [30, "{}"],
      ],
    );
    assert.deepEqual(
      [system?.length, alerts?.length, configs?.length, traces?.length],
      [1, 1, 1, 1],
      "one of each other kind",
    );
    assert.match((configs as { config: string }[])[0]?.config ?? "", /"lr":0.1,"big":1152921504606846977/);
    const words = await python(version, server.folder, readBack);
    assert.deepEqual(JSON.parse(words.trim().split("\n").at(-1) ?? ""), [
      ...[21, 0.5, 2 ** 60 + 1, "nan", ["myproject"], ["run"], 1, "careful", 1],
    ]);
  });
}

test("the syncer's rows are the same here and at the real server, also when they are sent twice", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await using real = await startTrackio(newest, "own", remote.path);
  await using server = await demoServer();
  await python(newest, local.path, busyProgram);
  for (const round of ["first", "again"]) {
    for (const { address } of [real, server]) {
      const statePath = join(local.path, "state/sync.db");
      await using syncer = syncerTo(address, { folder: local.path, statePath }, { withMedia: false });
      const { projects } = await syncer.poll(true);
      assert.deepEqual(
        projects.map(({ error, waiting, problems }) => [error, waiting, problems]),
        [0, 1, 2].map(() => [null, 0, []]),
        round,
      );
      // all is forgotten, and sent again
      rmSync(join(local.path, "state"), { recursive: true });
    }
    for (const file of ["firstone.db", "second.db", "third.db"]) {
      const [expected, found] = [remote.path, server.folder].map((folder) => rowsOf(join(folder, file)));
      assert.deepEqual(found, expected, `${file}, ${round}`);
      assert.equal(found?.["metrics"]?.length, 44);
    }
  }
  const [shape, found] = [remote.path, server.folder].map((folder) => shapeOf(join(folder, "second.db")));
  assert.deepEqual(found, shape);
});

/** Columns, and the indexes that keep rows apart. */
function shapeOf(path: string): unknown {
  using db = new DatabaseSync(path, { readOnly: true });
  const tables = ["metrics", "system_metrics", "configs", "traces", "alerts"];
  const version = db.prepare("PRAGMA user_version").get();
  const shapes = tables.map((table) => {
    const indexes = db.prepare(`PRAGMA index_list(${table})`).all();
    return {
      columns: db.prepare(`PRAGMA table_info(${table})`).all(),
      indexes: indexes
        .filter(({ unique }) => unique === 1)
        .map(({ name, unique, partial }) => `${name} ${unique} ${partial}`)
        .sort(),
    };
  });
  return { version, shapes };
}

const entry = { project: "p", run: "r", run_id: "id", metrics: { loss: 1 }, step: 0, config: null, log_id: "a" };
const alert = { project: "p", run: "r", title: "t", level: "warn", timestamp: "2026-01-01T00:00:00+00:00" };
const without = (name: string, object: object) =>
  Object.fromEntries(Object.entries(object).filter(([key]) => key !== name));

interface Exchange {
  words: string;
  path: string;
  body: unknown;
  token?: string | null;
}
const wrong = "a-wrong-token";
const logs = (...entries: object[]) => ({ kwargs: { logs: entries, hf_token: null } });
const query = (text: string, project = "p") => ({ kwargs: { project, query: text } });

const exchanges: Exchange[] = [
  { words: "a project that is not there", path: "query_project", body: query("SELECT 1", "none") },
  { words: "runs of a project that is not there", path: "get_runs_for_project", body: { kwargs: { project: "none" } } },
  { words: "rows", path: "bulk_log", body: logs(entry) },
  { words: "rows that were there before", path: "bulk_log", body: logs(entry) },
  { words: "a row without a name of its own", path: "bulk_log", body: logs(without("log_id", entry)) },
  { words: "the same once more", path: "bulk_log", body: logs(without("log_id", entry)) },
  { words: "a row without a step", path: "bulk_log", body: logs({ ...without("log_id", entry), step: null }) },
  { words: "a row without a run's id", path: "bulk_log", body: logs({ ...without("run_id", entry), log_id: "b" }) },
  { words: "no rows", path: "bulk_log", body: logs() },
  { words: "a wrong token", path: "bulk_log", body: logs(entry), token: wrong },
  { words: "no token", path: "bulk_log", body: logs(entry), token: null },
  { words: "no token for alerts", path: "bulk_alert", body: { kwargs: { alerts: [], hf_token: null } }, token: null },
  { words: "an unknown API", path: "no_such_api", body: {} },
  { words: "an unknown API, and no token", path: "no_such_api", body: {}, token: null },
  { words: "no hf_token", path: "bulk_log", body: { kwargs: { logs: [entry] } } },
  { words: "no rows at all", path: "bulk_log", body: { kwargs: { hf_token: null } } },
  { words: "no rows at all, and no token", path: "bulk_log", body: { kwargs: {} }, token: null },
  { words: "no query", path: "query_project", body: { kwargs: { project: "p" } } },
  { words: "malformed JSON", path: "bulk_log", body: '{"kwargs":' },
  { words: "no JSON", path: "bulk_log_system", body: "" },
  { words: "no run", path: "bulk_log", body: logs(without("run", entry)) },
  { words: "no project", path: "bulk_log", body: logs(without("project", entry)) },
  { words: "no metrics", path: "bulk_log", body: logs(without("metrics", entry)) },
  {
    words: "a good row and one without a run",
    path: "bulk_log",
    body: logs({ ...entry, log_id: "d" }, { project: "p" }),
  },
  { words: "a system row without a run", path: "bulk_log_system", body: logs(without("run", entry)) },
  { words: "a system row without a time", path: "bulk_log_system", body: logs(entry) },
  { words: "an alert", path: "bulk_alert", body: { kwargs: { alerts: [alert], hf_token: null } } },
  ...["title", "level", "run"].map((name) => ({
    words: `an alert without ${name}`,
    path: "bulk_alert",
    body: { kwargs: { alerts: [without(name, alert)], hf_token: null } },
  })),
  { words: "a query", path: "query_project", body: query("SELECT run_id, step, metrics, log_id FROM metrics; ") },
  { words: "a count", path: "query_project", body: query("select count(*) AS n, max(run_name) from alerts") },
  { words: "a large number", path: "query_project", body: query("SELECT 1152921504606846977 AS big, 0.5 AS half") },
  { words: "bytes", path: "query_project", body: query("SELECT x'ff00' AS bytes, NULL AS nothing") },
  { words: "a table that is not there", path: "query_project", body: query("SELECT * FROM nothing") },
  { words: "an empty query", path: "query_project", body: query(" ;") },
  { words: "a deletion", path: "query_project", body: query("DELETE FROM metrics") },
  { words: "a hidden deletion", path: "query_project", body: query("WITH x AS (SELECT 1) DELETE FROM metrics") },
  {
    words: "a query without an end",
    path: "query_project",
    body: query("WITH RECURSIVE x(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM x) SELECT * FROM x"),
  },
  { words: "the projects", path: "get_all_projects", body: {} },
];

async function post(address: string, { path, body, token = writeToken }: Exchange): Promise<unknown[]> {
  const response = await fetch(`${address}api/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(token === null ? {} : { "x-trackio-write-token": token }) },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return [response.status, await response.json()];
}

test("good and bad requests get the real server's status and words", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using remote = await temporaryFolder();
  await using real = await startTrackio(newest, "own", remote.path);
  await using server = await demoServer();
  const statuses = new Set<unknown>();
  for (const exchange of exchanges) {
    const expected = await post(real.address, exchange);
    assert.deepEqual(await post(server.address, exchange), expected, exchange.words);
    statuses.add(expected[0]);
  }
  assert.deepEqual([...statuses].sort(), [200, 400, 404, 500]);
  const kept = [remote.path, server.folder].map((folder) => rowsWithoutTimes(join(folder, "p.db")));
  assert.deepEqual(kept[1], kept[0]);
});

function rowsWithoutTimes(path: string): unknown {
  using db = new DatabaseSync(path);
  return ["metrics", "system_metrics", "alerts"].map((table) =>
    db
      .prepare(`SELECT * FROM ${table} ORDER BY id`)
      .all()
      .map(({ timestamp, ...row }) => [row, String(timestamp).length]),
  );
}

test("what would not be taken by any server is refused, and the server goes on", async () => {
  await using server = await demoServer();
  const huge = new Uint8Array(17 * 1024 * 1024);
  const headers = { "x-trackio-write-token": writeToken };
  const statusOf = async (path: string, init: RequestInit) => (await fetch(`${server.address}${path}`, init)).status;
  assert.equal(await statusOf("api/bulk_log", { method: "POST", headers, body: huge }), 413);
  assert.equal(await statusOf("api/bulk_log", {}), 405);
  assert.equal(await statusOf("elsewhere", {}), 404);
  const deep = "[".repeat(200_000) + "]".repeat(200_000);
  const [status] = await post(server.address, { words: "", path: "bulk_log", body: deep });
  assert.equal(status, 400);
  const strange = [
    { ...entry, metrics: 1 },
    { ...entry, run: 1 },
    { ...entry, step: "x" },
    { ...entry, step: 2 ** 70 },
    1,
  ];
  for (const one of strange) {
    const [status] = await post(server.address, { words: "", path: "bulk_log", body: logs(one as object) });
    assert.equal(status, 500, JSON.stringify(one));
  }
  assert.deepEqual(await post(server.address, { words: "", path: "bulk_log", body: logs(entry) }), [
    200,
    { data: null },
  ]);
});
