/** From a training in a real sandbox to a real trackio server, with no token in the sandbox. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Secret } from "../../src/secret.ts";
import { openSession } from "../../src/session/session.ts";
import { freePort } from "../helpers/free-port.ts";
import { shellInside } from "../helpers/run-inside.ts";
import { type RunningSession, runningSession } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { startHubDouble } from "../hub/hub-double.ts";
import { startSpace } from "../hub/running-space.ts";
import { isInstalled, newest, quiet, runsOf } from "../syncer/runs.ts";
import { hfToken, startTrackio, writeToken } from "../syncer/trackio.ts";

const metricsTo = (server: string) => ({
  ...{ server, writeToken: new Secret(writeToken), spaces: [], withMedia: true },
  ...{ intervalMs: 1000, maxBytesPerHour: 2 ** 30 },
});

/** Python with trackio in the sandbox; its packages are lent to the data volume. */
async function trainInside({ session, provider, agent }: RunningSession, code: string): Promise<void> {
  await session.ready;
  const data = (await provider.peek(`${session.name}-data`))?.hostPath ?? "";
  const packages = join(homedir(), ".cache/modal-sb-test", `trackio-${newest}`);
  execFileSync("cp", ["-rl", "--no-clobber", packages, join(data, "packages")]);
  const quoted = `import trackio\n${code}`.replaceAll("'", "'\\''");
  const { code: exit, stdout } = await shellInside(
    await agent(),
    `PYTHONPATH=/data/packages python3 -c '${quoted}' 2>&1`,
  );
  assert.equal(exit, 0, stdout);
}

const run = (name: string, rows: number) => `
trackio.init(project="p", name="${name}", ${quiet})
for i in range(${rows}): trackio.log({"loss": 1 / (i + 1)})
trackio.finish()
`;

test("what a training logs reaches the server, the last rows at the session's end; the sandbox has no token", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using remote = await temporaryFolder();
  await using server = await startTrackio(newest, "own", remote.path);
  {
    await using running = await runningSession({ changes: { metrics: metricsTo(server.address) } });
    await trainInside(running, run("first", 30));
    await running.waitFor("metrics", ({ sent, waiting }) => sent === 30 && waiting === 0);
    assert.deepEqual(runsOf(remote.path), { first: 30 });
    assert.deepEqual(running.session.metrics()?.destinations, [server.address]);
    const agent = await running.agent();
    const processes = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'";
    const { stdout: seen } = await shellInside(agent, processes);
    assert.ok(!seen.includes(writeToken) && !seen.includes("syncer") && seen.includes("TRACKIO_DIR="));
    const folders = "/app /data/home /data/sessions /data/trackio /etc /run /tmp /trackio";
    const found = await shellInside(agent, `grep -rls ${writeToken} ${folders}; ls /state /run/secrets 2>&1`);
    assert.deepEqual(found.stdout.match(/'\S+'/g), ["'/state'", "'/run/secrets'"], found.stdout);
    // these are sent by the drain, after the agent's last publication
    await trainInside(running, run("last", 7));
  }
  assert.deepEqual(runsOf(remote.path), { first: 30, last: 7 });
});

test("a server that is away is said at the end; the rows are kept, and go out when the session is opened again", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using remote = await temporaryFolder();
  const port = await freePort();
  const metrics = metricsTo(`http://127.0.0.1:${port}/`);
  await using running = await runningSession({ changes: { metrics } });
  await trainInside(running, run("kept", 12));
  await running.waitFor("metrics", ({ errors }) => /cannot be reached/.test(errors[0] ?? ""));
  await running.session[Symbol.asyncDispose]();
  const notice = await running.waitFor("host_notice", ({ kind }) => kind === "warning");
  assert.match(
    notice.message,
    /^About 12 rows of metrics were not sent \(p: 127\.0\.0\.1:\d+ cannot be reached .*They are kept/i,
  );
  await using _server = await startTrackio(newest, "own", remote.path, port);
  await using again = await openSession({ ...running.options, metrics });
  await again.ready;
  await again[Symbol.asyncDispose]();
  assert.deepEqual(runsOf(remote.path), { kept: 12 });
});

test("a sandbox that is killed takes no row with it that trackio had committed", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using remote = await temporaryFolder();
  await using server = await startTrackio(newest, "own", remote.path);
  await using running = await runningSession({ changes: { metrics: metricsTo(server.address) } });
  await trainInside(running, run("killed", 20));
  await running.session.kill();
  assert.equal((await running.say("go on")).result, "success");
  await running.waitFor("metrics", ({ sent, waiting }) => sent === 20 && waiting === 0);
  assert.deepEqual(runsOf(remote.path), { killed: 20 });
});

test("a syncer that is killed is started again, and sends nothing twice", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using remote = await temporaryFolder();
  await using server = await startTrackio(newest, "own", remote.path);
  await using running = await runningSession({ changes: { metrics: metricsTo(server.address) } });
  await trainInside(running, run("one", 10));
  await running.waitFor("metrics", ({ sent }) => sent === 10);
  const syncer = await running.provider.find(`${running.session.name}-syncer`);
  await syncer?.exec(["/bin/kill", "-9", "2"]);
  await running.waitFor("host_notice", ({ message }) => /syncer of metrics ended, and is started again/.test(message));
  await trainInside(running, run("two", 5));
  await running.waitFor("metrics", ({ sent, waiting }) => sent === 5 && waiting === 0);
  assert.deepEqual(runsOf(remote.path), { one: 10, two: 5 });
});

test("a Space that is missing is made, private and without the token; what is logged before it runs is in it when it does", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using folder = await temporaryFolder();
  await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  const port = await freePort();
  const toSpace = {
    ...{ spaces: ["acme/metrics"], createSpace: "private" as const, hfToken: new Secret(hfToken), hubUrl: hub.url },
    ...{ spaceAddress: `http://127.0.0.1:${port}/`, withMedia: false, intervalMs: 1000, maxBytesPerHour: 2 ** 30 },
  };
  await using running = await runningSession({ changes: { metrics: toSpace } });
  await trainInside(running, run("early", 9));
  await running.waitFor("metrics", ({ sent, waiting }) => sent === 9 && waiting === 0);
  const space = hub.spaces.get("acme/metrics");
  assert.deepEqual([space?.visibility, space?.secrets], ["private", []]);
  await using server = await startSpace(hub, "acme/metrics", port);
  await trainInside(running, run("live", 4));
  await running.session[Symbol.asyncDispose]();
  await server.call("force_sync", {});
  assert.deepEqual(runsOf(server.folder), { early: 9, live: 4 });
  const seen = JSON.stringify(running.events);
  assert.ok(!seen.includes(hfToken));
});

test("metrics of a session without a destination stay with it, and all go out when it gets one", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using remote = await temporaryFolder();
  await using server = await startTrackio(newest, "own", remote.path);
  await using running = await runningSession();
  await trainInside(running, run("before", 6));
  await running.session[Symbol.asyncDispose]();
  await using again = await openSession({ ...running.options, metrics: metricsTo(server.address) });
  await again.ready;
  await again[Symbol.asyncDispose]();
  assert.deepEqual(runsOf(remote.path), { before: 6 });
});

test("a session does not start when the agent would see the token of its metrics", async () => {
  await using folder = await temporaryFolder();
  writeFileSync(join(folder.path, "CLAUDE.md"), `The token is ${writeToken}.`);
  const changes = { metrics: metricsTo("http://127.0.0.1:9/"), instructions: folder.path };
  await using running = await runningSession({ changes });
  await assert.rejects(running.session.ready, (error: Error) => {
    assert.match(error.message, /TRACKIO_WRITE_TOKEN would be visible to the agent in \/app\/\.claude\/CLAUDE\.md/);
    assert.ok(!error.message.includes(writeToken));
    return true;
  });
});
