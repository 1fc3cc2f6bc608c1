/** A folder made to wear the syncer out: sizes, numbers, depths. It names what it leaves out, and its memory stays flat. */
import assert from "node:assert/strict";
import { mkdirSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest, rowsOf, runsOf, threeRuns } from "./runs.ts";
import { SyncerProcess } from "./syncer-process.ts";
import { python, startTrackio, writeToken } from "./trackio.ts";

/** of the syncer or its reader, in MiB: node alone takes about 80 */
const memoryLimitMiB = 400;

const columns =
  "id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER, log_id TEXT, metrics BLOB";

function syncerFor(folder: string, home: string, server: string): SyncerProcess {
  mkdirSync(join(home, "tokens"), { recursive: true });
  writeFileSync(join(home, "tokens/TRACKIO_WRITE_TOKEN"), writeToken, { mode: 0o600 });
  const places = { statePath: join(home, "sync.db"), controlPath: join(home, "control.sock") };
  return new SyncerProcess({ folder, server, credentialsFolder: join(home, "tokens"), ...places });
}

function makeDatabase(path: string, rows: string): void {
  const db = new DatabaseSync(path);
  db.exec(`CREATE TABLE metrics (${columns}); ${rows}`);
  db.close();
}

test("ten thousand files, ten gigabytes, huge rows, deep values: named, and the others go on in flat memory", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  const at = (name: string) => join(local.path, name);
  await python(newest, local.path, threeRuns);
  renameSync(at("p.db"), at("AA.db"));
  for (let index = 0; index < 10_000; index += 1) writeFileSync(at(`x${index}.db`), "rubbish");
  for (let index = 0; index < 10_000; index += 1) writeFileSync(at(`y${index}`), "");
  makeDatabase(at("Agrown.db"), "");
  truncateSync(at("Agrown.db"), 10 * 1024 ** 3);
  const value = (id: number, metrics: string) =>
    `INSERT INTO metrics VALUES (${id}, 'r', 't', 'r', 0, 'l${id}', ${metrics});`;
  const deep = `CAST('{"a":' || replace(hex(zeroblob(50000)), '00', '[') || replace(hex(zeroblob(50000)), '00', ']') || '}' AS BLOB)`;
  makeDatabase(
    at("Ahuge.db"),
    value(1, "CAST(zeroblob(300000000) AS BLOB)") + value(2, deep) + value(3, `CAST('{"fine":1}' AS BLOB)`),
  );
  makeDatabase(
    at("Along.db"),
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
     INSERT INTO metrics SELECT i, 'r' || i, 't', 'r' || i, i, 'l' || i, CAST(printf('{"a":"%.*c"}', 4000000, 'x') AS BLOB) FROM n;`,
  );
  await using server = await startTrackio(newest, "own", remote.path);
  await using syncer = syncerFor(local.path, join(remote.path, "home"), server.address);
  const summary = await syncer.drain(0);
  assert.ok(syncer.peakMiB() < memoryLimitMiB, `${syncer.peakMiB()} MiB`);
  assert.deepEqual(runsOf(remote.path, "AA"), { kept: 5, renamed: 5, deleted: 5 });
  assert.equal(rowsOf(join(remote.path, "Along.db"))["metrics"]?.length, 40);
  assert.ok(runsOf(remote.path, "Ahuge")["r"]);
  const said = [...summary.errors, ...summary.problems].join("\n");
  assert.match(said, /there are more than 200 databases; it is left out/);
  assert.match(said, /cannot be read: file is not a database/);
  assert.match(said, /^Ahuge: row 1 of metrics cannot be used: it has 300000000 bytes/m);
  assert.match(said, /^Ahuge: row 2 of metrics cannot be used: its metrics are .* too deep/m);
  // nothing is asked of the server by another look at the same
  assert.equal((await syncer.drain(0)).sent, summary.sent);
});

test("rows that keep coming, and a Space that changes at every look, keep no other project waiting", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, threeRuns);
  makeDatabase(
    join(local.path, "flood.db"),
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
     INSERT INTO metrics SELECT i, 'r', 't', 'r', i, 'l' || i, CAST('{"a":' || i || '}' AS BLOB) FROM n;`,
  );
  await using server = await startTrackio(newest, "own", remote.path);
  await using syncer = syncerFor(local.path, join(remote.path, "home"), server.address);
  mkdirSync(join(local.path, "spaces"));
  const db = new DatabaseSync(join(local.path, "flood.db"));
  const insert = db.prepare(
    "INSERT INTO metrics VALUES (NULL, 'r', 't', 'r', 0, hex(randomblob(16)), CAST('{\"a\":1}' AS BLOB))",
  );
  for (let round = 0; round < 5; round += 1) {
    for (let row = 0; row < 1000; row += 1) insert.run();
    writeFileSync(join(local.path, "spaces/flood"), `evil${round}/space`);
    writeFileSync(join(local.path, "space_id"), "\u001b]0;x\u0007".repeat(round + 1));
    await syncer.drain(0);
  }
  db.close();
  assert.deepEqual(runsOf(remote.path), { kept: 5, renamed: 5, deleted: 5 });
  const { waiting, sent, errors } = await syncer.drain(0);
  assert.deepEqual([waiting, sent, errors], [0, 25_015, []]);
  assert.ok(syncer.peakMiB() < memoryLimitMiB, `${syncer.peakMiB()} MiB`);
});
