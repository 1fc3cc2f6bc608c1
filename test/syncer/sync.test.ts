/** From a folder that the real trackio writes to a server that the real trackio runs: every row once, whatever happens. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { Secret } from "../../src/secret.ts";
import type { SyncerOptions } from "../../src/syncer/syncer.ts";
import { freePort } from "../helpers/free-port.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { assertEqual, busyProgram, isInstalled, newest, quiet, rowsOf, runsOf, syncerTo, threeRuns } from "./runs.ts";
import { hfToken, python, startTrackio, type Version, versions } from "./trackio.ts";

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
  const { metrics, alerts, system_metrics: system, configs } = rowsOf(join(remote.path, "p.db"));
  assert.deepEqual([alerts?.length, system?.length, configs?.length], [1, 1, 4]);
  assert.match(JSON.stringify(metrics), /\{\\"loss\\":1\.0,\\"big\\":1152921504606846977\}/);
});

const oneAlert = `
trackio.init(project="p", name="alerted", config={"a": 1}, ${quiet})
trackio.log({"loss": 1.0, "big": 2**60 + 1}); trackio.log_system({"gpu": 1}); trackio.alert(title="careful", text="x")
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

test("rows that a server lost are sent again, however many the run has", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  const program = `trackio.init(project="p", name="long", ${quiet})
for i in range(1700): trackio.log({"loss": i})
trackio.finish()`;
  await python(newest, local.path, program);
  await using server = await startTrackio(newest, "own", remote.path);
  await using syncer = syncerTo(server.address, { folder: local.path, statePath: join(remote.path, "state/sync.db") });
  await syncer.poll(true);
  const db = new DatabaseSync(join(remote.path, "p.db"));
  db.exec("DELETE FROM metrics WHERE step > 1000");
  db.close();
  await syncer.poll(true);
  assertEqual(local.path, remote.path, ["p"]);
});

test("the newest run, deleted in the dashboard, stays deleted; a server put back to an older state gets all again", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python(newest, local.path, threeRuns);
  const setting = { folder: local.path, statePath: join(remote.path, "state/sync.db") };
  const port = await freePort();
  const backup = join(remote.path, "older.copy");
  {
    await using server = await startTrackio(newest, "own", remote.path, port);
    await using syncer = syncerTo(server.address, setting);
    await syncer.poll(true);
    copyFileSync(join(remote.path, "p.db"), backup);
    await server.call("delete_run", { project: "p", run: "deleted" });
    await syncer.poll(true);
    await syncer.poll(true);
    assert.deepEqual(runsOf(remote.path), { kept: 5, renamed: 5 });
    const late = `trackio.init(project="p", name="late", ${quiet}); trackio.log({"loss": 1}); trackio.finish()`;
    await python(newest, local.path, moreOf("kept") + moreOf("deleted") + late);
    await syncer.poll(true);
    await syncer.poll(true);
    assert.deepEqual(runsOf(remote.path), { kept: 8, renamed: 5, late: 1 });
  }
  for (const ending of ["-wal", "-shm"]) rmSync(join(remote.path, `p.db${ending}`), { force: true });
  copyFileSync(backup, join(remote.path, "p.db"));
  await using server = await startTrackio(newest, "own", remote.path, port);
  await using syncer = syncerTo(server.address, setting);
  await syncer.poll(true);
  // the older state has the run that was deleted since; no more of it is sent. That which it lacks was not deleted
  assert.deepEqual(runsOf(remote.path), { kept: 8, renamed: 5, deleted: 5, late: 1 });
});
