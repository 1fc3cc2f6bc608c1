/** From a training on Modal to a trackio server, over a volume that shows nothing before it is committed and refreshed. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { ended } from "../../helpers/cli.ts";
import { canEmulate, modalUser } from "../../helpers/modal-user.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { isInstalled, newest, quiet, runsOf } from "../../syncer/runs.ts";
import { startTrackio, writeToken } from "../../syncer/trackio.ts";

async function canRun(context: TestContext): Promise<boolean> {
  return (await canEmulate(context)) && (await isInstalled(newest, context));
}

const train = (name: string, rows: number) =>
  `!bash python3 -c 'import trackio; trackio.init(project="p", name="${name}", ${quiet.replaceAll("'", '"')}); [trackio.log({"loss": 1 / (i + 1)}) for i in range(${rows})]; trackio.finish()' 2>&1 && echo trained`;

test("metrics of a training on Modal reach the server; those of a session without a host wait, and come later", async (context) => {
  if (!(await canRun(context))) return;
  await using remote = await temporaryFolder();
  await using server = await startTrackio(newest, "own", remote.path);
  await using modal = await modalUser({ world: { "metrics.example": new URL(server.address).host } });
  const env = { TRACKIO_WRITE_TOKEN: writeToken };
  const flags = ["--metrics", "https://metrics.example", "-s", "mine"];
  const first = await modal.run([...flags, "-p", train("first", 30)], { env });
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stdout, /trained/);
  assert.deepEqual(runsOf(remote.path), { first: 30 }, first.stderr);

  const left = await modal.run([...flags, "--detach", "-p", train("second", 20)], { env });
  assert.equal(left.code, 0, left.stderr);
  assert.match(left.stderr, /goes on without this terminal/);
  const agent = modal.emulator.sandboxes().find(({ running, tags }) => running && tags["role"] === "agent");
  assert.ok(agent, "the agent runs without a host");
  const child = modal.start([...flags.slice(0, 2), "attach", "mine"], { env });
  child.stdin?.end("");
  const attached = await ended(child);
  assert.equal(attached.code, 0, attached.stderr);
  assert.match(attached.stdout, /trained\nEND_TURN\n$/, attached.stderr);
  assert.deepEqual(runsOf(remote.path), { first: 30, second: 20 }, attached.stderr);
  assert.ok(modal.emulator.sandboxes().every(({ running }) => !running));
});

test("what a session left waits on its volume: sync sends it, metrics, usage and audit bring it here", async (context) => {
  if (!(await canRun(context))) return;
  await using remote = await temporaryFolder();
  await using server = await startTrackio(newest, "own", remote.path);
  await using modal = await modalUser({ world: { "metrics.example": new URL(server.address).host } });
  const env = { TRACKIO_WRITE_TOKEN: writeToken };
  const ran = await modal.run(["-s", "mine", "-p", train("kept", 12)]);
  assert.match(ran.stdout, /trained/, ran.stderr);
  assert.deepEqual(
    readdirSync(remote.path).filter((name) => name.endsWith(".db")),
    [],
  );

  const wrong = await modal.run(["sync", "mine"]);
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /no destination for metrics[\s\S]*--metrics owner\/name/);
  const sent = await modal.run(["--metrics", "https://metrics.example", "sync", "mine"], { env });
  assert.equal(sent.code, 0, sent.stderr);
  assert.match(sent.stderr, /mine → https:\/\/metrics.example: 12 rows sent/);
  assert.deepEqual(runsOf(remote.path), { kept: 12 });

  const shown = await modal.run(["metrics", "mine", "--json"]);
  assert.equal(shown.code, 0, shown.stderr);
  assert.equal((JSON.parse(shown.stdout.trim()) as { rows: number }).rows, 12);
  const usage = await modal.run(["usage", "mine", "--json"]);
  assert.ok((JSON.parse(usage.stdout) as { requests: number }).requests > 0, usage.stderr);
  const audit = await modal.run(["audit", "mine"]);
  assert.match(audit.stdout, /POST \/v1\/messages/, audit.stderr);
  assert.equal((await modal.run(["audit", "mine", "--follow"])).code, 2);
  assert.ok(modal.emulator.sandboxes().every(({ running }) => !running));
});
