/** The inbox of a Space's bucket: the syncer at a double of the Hub, and the real trackio as the Space that imports. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import type { Syncer } from "../../src/syncer/syncer.ts";
import type { HubSpace } from "../hub/hub-double.ts";
import { assertEqual, busyProgram, copyOf, newest, quiet, runsOf, threeRuns } from "./runs.ts";
import { spaceId, spaceScene } from "./space-scene.ts";
import { hfToken, python } from "./trackio.ts";

/** log_id and time of each metrics row. */
function timesIn(folder: string, project = "p"): Record<string, string> {
  const db = copyOf(join(folder, `${project}.db`));
  const rows = db.prepare("SELECT log_id AS id, timestamp FROM metrics ORDER BY log_id").all();
  db.close();
  return Object.fromEntries(rows.map((row) => [String(row["id"]), String(row["timestamp"])]));
}

/** Makes what was logged older. */
function age(folder: string, project = "p"): void {
  const db = new DatabaseSync(join(folder, `${project}.db`));
  for (const table of ["metrics", "system_metrics", "alerts"]) {
    db.exec(
      `UPDATE ${table} SET timestamp = strftime('%Y-%m-%dT%H:%M:%S', timestamp, '-2 hours') || substr(timestamp, 20)`,
    );
  }
  db.close();
}

function assertFine(status: Awaited<ReturnType<Syncer["poll"]>>, projects = 1): void {
  assert.deepEqual(
    status.projects.map(({ error, waiting }) => [error, waiting]),
    Array.from({ length: projects }, () => [null, 0]),
  );
}

test("rows that come late keep their times; live ones go to the server at once; none is there twice", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  await python(newest, it.local, threeRuns);
  age(it.local);
  await using space = await it.start();
  await using syncer = it.syncer();
  assertFine(await syncer.poll(true));
  assert.deepEqual(timesIn(space.folder), timesIn(it.local));
  assert.deepEqual(it.waiting(), []);
  const uploads = () => it.hub.requests.filter(({ path }) => path.endsWith("/batch")).length;
  const before = uploads();
  await python(
    newest,
    it.local,
    `trackio.init(project="p", name="live", ${quiet}); trackio.log({"loss": 1}); trackio.finish()`,
  );
  assertFine(await syncer.poll(true));
  assert.equal(uploads(), before);
  assert.deepEqual(runsOf(space.folder), { deleted: 5, kept: 5, live: 1, renamed: 5 });
  // what was sent is forgotten: all comes again, on both ways, and changes nothing
  rmSync(join(it.statePath, ".."), { recursive: true });
  await using again = it.syncer();
  assertFine(await again.poll(true));
  assertEqual(it.local, space.folder, ["p"]);
});

test("while the Space does not run, rows wait in its bucket, and all are there once when it does", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  await python(newest, it.local, busyProgram);
  {
    await using syncer = it.syncer();
    const status = await syncer.poll(true);
    assertFine(status, 3);
    assert.match(status.projects[0]?.problems.join() ?? "", /its Space does not answer; rows wait in its bucket/);
    assert.ok(it.waiting().length >= 3, it.waiting().join());
    // nothing new: nothing more is written, also by a syncer that starts anew
    const count = it.waiting().length;
    await syncer.poll(true);
    assert.equal(it.waiting().length, count);
  }
  await using space = await it.start();
  await using syncer = it.syncer();
  assertFine(await syncer.poll(true), 3);
  assert.deepEqual(it.waiting(), []);
  assertEqual(it.local, space.folder, ["firstone", "second", "third"]);
  assert.deepEqual(timesIn(space.folder, "second"), timesIn(it.local, "second"));
  assert.deepEqual(((await space.call("get_all_projects", {})) as string[]).sort(), [
    "firstone",
    "modal-sb-welcome",
    "second",
    "third",
  ]);
});

test("a Space that falls asleep between rows, and wakes, has each row once", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  await using syncer = it.syncer();
  const log = (name: string) =>
    python(
      newest,
      it.local,
      `trackio.init(project="p", name="${name}", config={"name": "${name}"}, ${quiet})
for i in range(3): trackio.log({"loss": i}); trackio.log_system({"gpu": i}); trackio.alert(title=str(i), text="t")
trackio.finish()`,
    );
  for (let round = 0; round < 3; round += 1) {
    {
      await using _space = await it.start();
      await log(`awake ${round}`);
      assertFine(await syncer.poll(true));
    }
    await log(`asleep ${round}`);
    assertFine(await syncer.poll(true));
    assert.ok(it.waiting().length > 0);
  }
  await using space = await it.start();
  assertFine(await syncer.poll(true));
  assertEqual(it.local, space.folder, ["p"]);
});

test("what is renamed or deleted in the dashboard stays so for rows that come through the bucket", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  const more = (name: string) => `
trackio.init(project="p", name="${name}", resume="must", ${quiet})
for i in range(3): trackio.log({"loss": 10 + i})
trackio.finish()
`;
  await python(newest, it.local, threeRuns);
  await using syncer = it.syncer();
  {
    await using space = await it.start();
    await syncer.poll(true);
    await space.call("rename_run", { project: "p", old_name: "renamed", new_name: "better" });
    await space.call("delete_run", { project: "p", run: "deleted" });
    await syncer.poll(true);
  }
  await python(newest, it.local, more("renamed") + more("deleted") + more("kept"));
  assertFine(await syncer.poll(true));
  assert.ok(it.waiting().length > 0);
  await using space = await it.start();
  assertFine(await syncer.poll(true));
  assert.deepEqual(runsOf(space.folder), { kept: 8, better: 8 });
});

/** SQL of a database as trackio would have made it, with rows of anybody's making. */
const hostile = `CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step,
    log_id TEXT, metrics TEXT);
  CREATE TABLE alerts (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, title TEXT, text TEXT,
    level TEXT, step, alert_id TEXT);
  INSERT INTO metrics VALUES
  (1, 'r', '2026-01-01T00:00:00+00:00', 'r', 0, 'fine', '{"a":\n1}'),
  (2, 'r', '2026-01-01T00:00:01+00:00', 'r', '9999999999999999999', 'step', '{"a":1}'),
  (3, 'r', '2026-01-01T00:00:02+00:00', 'r', 1, 'half', '{"a":"\\ud800"}'),
  (4, 'r', '2026-01-01T00:00:03+00:00', 'r', 2, 'large', '{"a":1e999}'),
  (5, 'r', '2026-01-01T00:00:04+00:00', 'r', 3, 'spans', '{"a":{"_type":"trackio.trace","messages":[],"spans":7}}'),
  (6, 'r', 'yesterday', 'r', 4, 'time', '{"a":1}'),
  (7, 'r', '2026-01-01T00:00:06+00:00', 'r', 5, 'last', '{"a":2}');
  INSERT INTO alerts VALUES (1, 'r', '2026-01-01T00:00:00+00:00', 'r', 't', 'x', 'warn', '9999999999999999999', 'alert'),
    (2, 'r', '2026-01-01T00:00:00+00:00', 'r', 't', 'x', 'warn', 1, 'fine alert');`;

test("rows at which the importer would stop never reach the bucket", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  const db = new DatabaseSync(join(it.local, "p.db"));
  db.exec(hostile);
  db.close();
  await using syncer = it.syncer();
  const asleep = await syncer.poll(true);
  assertFine(asleep);
  const refused = asleep.projects[0]?.problems.filter((words) => /only a Space that runs can take it/.test(words));
  assert.equal(refused?.length, 6);
  await using space = await it.start();
  for (let round = 0; round < 2; round += 1) await syncer.poll(true);
  await space.call("force_sync", {});
  assert.deepEqual(it.waiting(), []);
  // two of them a running Space takes; the importer had no trouble with the others
  assert.deepEqual(Object.keys(timesIn(space.folder)), ["fine", "large", "last", "time"]);
  assert.equal(timesIn(space.folder)["last"], "2026-01-01T00:00:06+00:00");
});

test("rows that wait in the bucket are not taken for lost", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  await python(newest, it.local, threeRuns);
  age(it.local);
  await using space = await it.start();
  // somebody else's row keeps the importer from all that is behind it
  const foreign = join(it.remote, "inbox/0000000000000000/00000000.jsonl");
  mkdirSync(join(foreign, ".."), { recursive: true });
  writeFileSync(foreign, '{"kind":"metric","project":"other","run":"r","metrics":[1],"step":0,"log_id":"x"}\n');
  await using syncer = it.syncer();
  for (let round = 0; round < 3; round += 1) assertFine(await syncer.poll(true));
  assert.equal(it.waiting().length, 2);
  assert.ok(!existsSync(join(space.folder, "p.db")));
  rmSync(foreign);
  // the importer looks by itself, too
  await until(() => it.waiting().length === 0);
  assertFine(await syncer.poll(true));
  assert.deepEqual(timesIn(space.folder), timesIn(it.local));
});

test("a file that the Hub did not take is sent again, and one whose answer was lost is imported once", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  await python(newest, it.local, threeRuns);
  let batches = 0;
  it.hub.intercept = ({ path }) => {
    if (!path.endsWith("/batch")) return undefined;
    batches += 1;
    return ([{ status: 503 }, "cut"] as const)[batches - 1];
  };
  for (const isTaken of [false, false, true]) {
    // each time a syncer that starts anew, as after a crash
    await using syncer = it.syncer();
    const { projects } = await syncer.poll(true);
    assert.deepEqual([projects[0]?.error === null, projects[0]?.waiting], [isTaken, isTaken ? 0 : 15]);
  }
  // the number of the lost answer is not given to another file
  assert.deepEqual(it.waiting(), ["00000001.jsonl", "00000002.jsonl"]);
  await using space = await it.start();
  await using syncer = it.syncer();
  assertFine(await syncer.poll(true));
  assertEqual(it.local, space.folder, ["p"]);
});

test("where the token may not write to the bucket, rows go to the server, and wait while it sleeps", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  it.hub.intercept = ({ path }) => (path.includes("/api/buckets/") ? { status: 403 } : undefined);
  await python(newest, it.local, threeRuns);
  age(it.local);
  await using syncer = it.syncer();
  const asleep = await syncer.poll(true);
  assert.match(asleep.projects[0]?.error ?? "", /The token may not read the bucket acme\/metrics-bucket/);
  assert.equal(asleep.projects[0]?.waiting, 15);
  await using space = await it.start();
  assertFine(await syncer.poll(true));
  assert.deepEqual(runsOf(space.folder), { kept: 5, renamed: 5, deleted: 5 });
});

test("a Space that is paused answers for itself, and takes rows through its bucket", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  await python(newest, it.local, threeRuns);
  await using _page = await pageOfHuggingFace(it.port, 404);
  const space = it.hub.spaces.get(spaceId);
  assert.ok(space);
  space.stage = "RUNNING";
  await using running = it.syncer();
  assert.match((await running.poll(true)).projects[0]?.error ?? "", /answered 404/);
  space.stage = "PAUSED";
  await using paused = it.syncer();
  assertFine(await paused.poll(true));
  assert.equal(it.waiting().length, 1);
});

test("a Space that does not answer and may have rows that are not known of is waited for", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  await python(newest, it.local, threeRuns);
  {
    await using _space = await it.start();
    await using syncer = it.syncer();
    assertFine(await syncer.poll(true));
  }
  rmSync(join(it.statePath, ".."), { recursive: true });
  await using syncer = it.syncer();
  const { projects } = await syncer.poll(true);
  assert.match(projects[0]?.error ?? "", /does not answer, and what it has of the project is not known/);
  assert.deepEqual(it.waiting(), []);
  await using space = await it.start();
  assertFine(await syncer.poll(true));
  assertEqual(it.local, space.folder, ["p"]);
});

for (const [words, change] of [
  ["without a bucket", (space: HubSpace) => space.volumes.splice(0)],
  ["whose trackio is too old for it", (space: HubSpace) => (space.files["requirements.txt"] = "trackio==0.27.1\n")],
] as const) {
  test(`a Space ${words} has no inbox`, async (context) => {
    await using it = await spaceScene(context);
    const space = it?.hub.spaces.get(spaceId);
    if (!it || !space) return;
    await python(newest, it.local, threeRuns);
    change(space);
    await using syncer = it.syncer();
    const { projects } = await syncer.poll(true);
    assert.match(projects[0]?.error ?? "", /cannot be reached \(ECONNREFUSED\)/);
    assert.equal(projects[0]?.waiting, 15);
    assert.deepEqual(it.waiting(), []);
  });
}

test("what is put into the bucket counts towards what may leave in an hour", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  await python(newest, it.local, busyProgram);
  const before = it.hub.requests.length;
  await using syncer = it.syncer({ maxBytesPerHour: 20_000 });
  const capped = await syncer.poll(true);
  assert.ok(capped.bytesThisHour > 0 && capped.bytesThisHour <= 20_000, String(capped.bytesThisHour));
  assert.ok(capped.projects.some(({ error }) => /that may leave in an hour are used up/.test(error ?? "")));
  // and the token went to the Hub alone
  const expected = (path: string) => (path.startsWith("cas:") ? "short-lived-token-of-the-storage" : hfToken);
  const requests = it.hub.requests.slice(before);
  assert.ok(requests.some(({ path }) => path.startsWith("cas:/v1/shards")));
  for (const { path, authorization } of requests) assert.equal(authorization, `Bearer ${expected(path)}`);
});

test("rows that trackio wrote as JSON lines wait in the bucket, too, and keep their times", async (context) => {
  await using it = await spaceScene(context);
  if (!it) return;
  await python(newest, it.local, threeRuns, { TRACKIO_STORAGE_MODE: "jsonl" });
  await using syncer = it.syncer();
  assertFine(await syncer.poll(true));
  assert.ok(it.waiting().length > 0);
  await using space = await it.start();
  await space.call("force_sync", {});
  assert.deepEqual(runsOf(space.folder), { kept: 5, renamed: 5, deleted: 5 });
  const lines = (readdirSync(join(it.local, "inbox"), { recursive: true }) as string[])
    .filter((name) => name.endsWith(".jsonl"))
    .flatMap((name) =>
      readFileSync(join(it.local, "inbox", name), "utf8")
        .trim()
        .split("\n"),
    )
    .map((line) => JSON.parse(line) as { log_id: string; timestamp: string });
  const there = timesIn(space.folder);
  for (const { log_id: id, timestamp } of lines) assert.equal(there[id], timestamp);
});

async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 50));
}

/** What answers at the address of a Space that does not run. */
async function pageOfHuggingFace(port: number, status: number): Promise<AsyncDisposable> {
  const server = createServer((_request, response) => {
    response.writeHead(status, { "content-type": "text/html" }).end("<html>Sorry</html>");
  }).listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("the token goes to no address before the Hub has said that it is the Space's", async (context) => {
  await using scene = await spaceScene(context);
  if (!scene) return;
  await python(newest, scene.local, threeRuns);
  const seen: (string | undefined)[] = [];
  const stranger = createServer((incoming, response) => {
    seen.push(incoming.headers.authorization);
    response.writeHead(503).end();
  }).listen(0, "127.0.0.1");
  await once(stranger, "listening");
  context.after(() => stranger.close());
  const { port } = stranger.address() as AddressInfo;
  const to = async (spaceId: string) => {
    const spaceAddress = `http://127.0.0.1:${port}/{subdomain}/`;
    await using syncer = scene.syncer({ spaces: [spaceId], spaceAddress });
    return (await syncer.poll(true)).projects[0]?.error ?? "";
  };
  // acme/metrics-x would be at the host of acme-metrics/x, which anybody may register
  assert.match(await to("acme/metrics-x"), /Hugging Face knows no Space acme\/metrics-x/);
  const space = scene.hub.spaces.get("acme/metrics");
  assert.ok(space);
  Object.assign(space, { subdomain: "acme-metrics-2", stage: "RUNNING" });
  assert.match(await to("acme/metrics"), /not at the address that its name makes/);
  scene.hub.intercept = ({ path }) => (path.startsWith("/api/spaces/") ? { status: 503 } : undefined);
  assert.match(await to("acme/metrics"), /Hugging Face answered 503/);
  assert.deepEqual(seen, []);
  scene.hub.intercept = undefined;
  delete space.subdomain;
  await to("acme/metrics");
  assert.equal(seen[0], `Bearer ${hfToken}`);
});
