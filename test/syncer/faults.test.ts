/** Failures of the network, of servers and of the disk: said, waited out, and nothing lost or doubled. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { buffer } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { Secret } from "../../src/secret.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { assertEqual, busyProgram, isInstalled, newest, runsOf, syncerTo, threeRuns } from "./runs.ts";
import { hfToken, python, type RunningTrackio, startTrackio } from "./trackio.ts";

/** Stands before a server and spoils answers: refused, failed, or lost after the server has taken the rows. */
async function faultyFront(server: RunningTrackio, spoil: (body: string) => "pass" | "500" | "cut" | "lost") {
  const front = createServer(async (incoming: IncomingMessage, response: ServerResponse) => {
    const body = await buffer(incoming);
    const fault = incoming.url === "/version" ? "pass" : spoil(body.toString());
    if (fault === "cut") return incoming.socket.destroy();
    if (fault === "500") return response.writeHead(500).end('{"error":"database is locked"}');
    const target = new URL(incoming.url ?? "/", server.address);
    const outgoing = request(target, { method: incoming.method ?? "GET", headers: incoming.headers }, (answer) => {
      if (fault === "lost") return answer.resume().once("end", () => incoming.socket.destroy());
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    return outgoing.end(body);
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

/** A folder with one row, and a server that answers as `handler` says. */
async function oneRowTo(context: TestContext, handler: (incoming: IncomingMessage, response: ServerResponse) => void) {
  const local = await temporaryFolder();
  const server = createServer(handler).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  context.after(async () => {
    server.closeAllConnections();
    server.close();
    await local[Symbol.asyncDispose]();
  });
  const db = new DatabaseSync(join(local.path, "p.db"));
  db.exec(`CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_name TEXT, timestamp TEXT, metrics TEXT);
    INSERT INTO metrics VALUES (1, 'r', 't', '{"a":1}')`);
  db.close();
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return { address, setting: { folder: local.path, statePath: join(local.path, "state/sync.db") } };
}

test("a redirect is not followed, and an old server is refused", async (context) => {
  const paths: (string | undefined)[] = [];
  const elsewhere = await oneRowTo(context, (incoming, response) => {
    paths.push(incoming.url);
    response.writeHead(307, { location: "/stolen" }).end();
  });
  await using first = syncerTo(elsewhere.address, elsewhere.setting);
  assert.match((await first.poll(true)).projects[0]?.error ?? "", /redirect, which is not followed/);
  assert.deepEqual(paths, ["/version"]);
  const old = await oneRowTo(context, (_incoming, response) => {
    response.end('{"version":"0.23.9","api_version":1}');
  });
  await using second = syncerTo(old.address, old.setting);
  assert.match((await second.poll(true)).projects[0]?.error ?? "", /trackio 0\.23\.9; 0\.24\.0 or later is needed/);
});

test("a destination that failed is left alone, unless it is asked for", async (context) => {
  let requests = 0;
  const { address, setting } = await oneRowTo(context, (_incoming, response) => {
    requests += 1;
    response.writeHead(503).end();
  });
  await using syncer = syncerTo(address, setting);
  // the clock stands still, so that five looks are before the second try, however long they take
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  for (let round = 0; round < 5; round += 1) await syncer.poll();
  assert.equal(requests, 1);
  await syncer.poll(true);
  assert.equal(requests, 2);
});

test("no more leaves in an hour than may, and it is said", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, busyProgram);
  await using server = await startTrackio(newest, "own", remote.path);
  const setting = { folder: local.path, statePath: join(remote.path, "state/sync.db") };
  const maxBytesPerHour = 20_000;
  await using syncer = syncerTo(server.address, setting, { maxBytesPerHour, withMedia: false });
  const capped = await syncer.poll(true);
  assert.ok(capped.bytesThisHour <= maxBytesPerHour, String(capped.bytesThisHour));
  assert.ok(capped.projects.some(({ error }) => /that may leave in an hour are used up/.test(error ?? "")));
  // the cap outlives the process
  await using again = syncerTo(server.address, setting, { maxBytesPerHour, withMedia: false });
  assert.equal((await again.poll(true)).bytesThisHour, capped.bytesThisHour);
  await using free = syncerTo(server.address, setting);
  await free.poll(true);
  assertEqual(local.path, remote.path, ["firstone", "second", "third"]);
});

test("a row that the server refuses is kept, and sent when it is taken; damaged watermarks are set aside", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, threeRuns);
  await using server = await startTrackio(newest, "own", remote.path);
  let refuses = true;
  await using front = await faultyFront(server, (body) => (refuses && body.includes('"loss":2') ? "500" : "pass"));
  const setting = { folder: local.path, statePath: join(remote.path, "state/sync.db") };
  await using syncer = syncerTo(front.address, setting);
  const { projects } = await syncer.poll(true);
  assert.equal(projects[0]?.error, null);
  assert.match(projects[0]?.problems[0] ?? "", /^row \d+ of metrics was refused, and is kept/);
  assert.deepEqual(runsOf(remote.path), { kept: 4, renamed: 4, deleted: 4 });
  refuses = false;
  await syncer.poll(true);
  assert.deepEqual(runsOf(remote.path), { kept: 5, renamed: 5, deleted: 5 });
  const statePath = join(remote.path, "other/sync.db");
  mkdirSync(join(remote.path, "other"));
  writeFileSync(statePath, "x".repeat(10_000));
  await using anew = syncerTo(server.address, { ...setting, statePath });
  await anew.poll(true);
  assert.deepEqual(runsOf(remote.path), { kept: 5, renamed: 5, deleted: 5 });
  assert.equal(readdirSync(join(remote.path, "other")).filter((name) => name.includes(".damaged-")).length, 1);
});

test("a project of which the server takes nothing keeps no other one waiting", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, threeRuns);
  const db = new DatabaseSync(join(local.path, "all-bad.db"));
  db.exec(`CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER,
      log_id TEXT, metrics TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
    INSERT INTO metrics SELECT i, 'r', 't', 'r', i, 'l' || i, '{"half of a letter":"\\ud800"}' FROM n`);
  db.close();
  await using server = await startTrackio(newest, "own", remote.path);
  await using syncer = syncerTo(server.address, { folder: local.path, statePath: join(remote.path, "state/sync.db") });
  const { projects } = await syncer.poll(true);
  const found = new Map(projects.map((project) => [project.project, project]));
  assert.match(found.get("all-bad")?.error ?? "", /answered 500: .*surrogates not allowed/);
  assert.deepEqual([found.get("p")?.error, found.get("p")?.waiting], [null, 0]);
  assert.deepEqual(runsOf(remote.path), { kept: 5, renamed: 5, deleted: 5 });
});

test("a server that keeps nothing is not sent everything for ever, and it is said", async (context) => {
  let batches = 0;
  const { address, setting } = await oneRowTo(context, (incoming, response) => {
    if (incoming.url === "/version") return response.end('{"version":"0.43.0","api_version":1}');
    if (incoming.url !== "/api/query_project") {
      batches += 1;
      return response.end('{"data":null}');
    }
    response.writeHead(500).end(`{"error":"Project 'p' not found."}`);
  });
  await using syncer = syncerTo(address, setting);
  const { projects } = await syncer.poll(true);
  assert.match(projects[0]?.error ?? "", /the server loses what it is sent/);
  assert.equal(batches, 4);
});
