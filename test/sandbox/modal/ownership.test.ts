/** Which sandboxes are ours: the server's tags decide, not names and not what a caller says. */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { BusyError, SandboxError } from "../../../src/errors.ts";
import type { SandboxSpec } from "../../../src/sandbox/provider.ts";
import { createProvider } from "../../../src/sandbox/sandbox.ts";
import { freePort } from "../../helpers/free-port.ts";
import { shellInside } from "../../helpers/run-inside.ts";
import { sandboxSpec } from "../../helpers/sandbox-spec.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { needsEmulator, openScene, serverCommand } from "./open-modal.ts";

const trusted: Partial<SandboxSpec> = { role: "syncer", egress: { kind: "host" } };

test("another process of the installation finds a sandbox, uses it and ends it", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const made = await scene.provider.create(
    sandboxSpec({
      role: "proxy",
      egress: { kind: "host" },
      name: "s_1-proxy",
      ports: [8080],
      tags: { session: "s_1" },
      ...serverCommand,
    }),
  );
  const other = await scene.another();
  const found = await other.find("s_1-proxy");
  assert.ok(found);
  assert.deepEqual([found.id, found.name, found.role, found.tags], [made.id, "s_1-proxy", "proxy", { session: "s_1" }]);
  assert.deepEqual(found.address(8080), made.address(8080));
  assert.equal(found.startedAt.getTime(), Math.round(made.startedAt.getTime() / 1000) * 1000);
  assert.equal((await shellInside(found, "echo hello")).stdout, "hello\n");
  const [record] = await other.list({ session: "s_1" });
  assert.ok(record);
  assert.ok(Date.parse(record.endsAt ?? "") > Date.now());
  assert.equal(record.ownerPid, undefined);
  assert.equal(await other.open(record), found);
  await found.terminate();
  // the one who made it learns of it, too
  assert.equal((await made.exited).reason, "killed");
  assert.equal(await other.open(record), undefined);
  assert.equal(await other.find("s_1-proxy"), undefined);
});

test("a released sandbox outlives the provider, and its end is nobody's", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const first = await scene.another();
  const kept = await first.create(sandboxSpec({ ...trusted, name: "kept" }));
  const ended = await first.create(sandboxSpec({ ...trusted, name: "ended" }));
  await kept.release();
  await assert.rejects(kept.exec(["true"]), SandboxError);
  await first[Symbol.asyncDispose]();
  assert.deepEqual(
    (await scene.provider.list()).map((record) => record.id),
    [kept.id],
  );
  assert.equal(scene.emulator.sandboxes().find(({ id }) => id === ended.id)?.running, false);
  assert.equal((await scene.provider.find("kept"))?.id, kept.id);
});

test("another installation's sandboxes are neither listed nor opened nor read", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  await using folder = await temporaryFolder();
  const stranger = await scene.another({}, folder.path);
  await using foreign = await stranger.create(sandboxSpec({ ...trusted, name: "foreign", tags: { session: "s1" } }));
  assert.deepEqual(await scene.provider.list(), []);
  assert.equal(await scene.provider.find("foreign"), undefined);
  const [record] = await stranger.list();
  assert.ok(record);
  await assert.rejects(scene.provider.open(record), BusyError);
  await assert.rejects(scene.provider.logs(record), BusyError);
  assert.equal(foreign.status(), "running");
});

test("a sandbox that bears our name and not our tags is refused and left alone", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  await (await scene.provider.create(sandboxSpec({ ...trusted, name: "mine" }))).terminate();
  const [own] = scene.emulator.sandboxes();
  assert.ok(own);
  Object.assign(process.env, scene.emulator.environment);
  const { ModalClient } = await import("modal");
  const client = new ModalClient();
  const app = await client.apps.fromName("modal-sb");
  const image = client.images.fromRegistry("debian:bookworm");
  // a workspace's other user, who has seen our tags but for the owner
  const foreign = await client.sandboxes.create(app, image, {
    name: own.name,
    tags: { ...own.tags, owner: "f".repeat(32) },
    command: ["sleep", "600"],
  });
  await assert.rejects(scene.provider.find("mine"), (error: BusyError) => {
    assert.ok(error instanceof BusyError);
    assert.match(error.message, /this installation did not make/);
    return true;
  });
  await assert.rejects(scene.provider.create(sandboxSpec({ ...trusted, name: "mine" })), BusyError);
  assert.deepEqual(await scene.provider.list(), []);
  assert.equal(await foreign.poll(), null);
});

test("names fit Modal, and the installation's id is for its owner's eyes", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const name = `${"long-".repeat(20)}and more`;
  const session = "a_b_".repeat(16);
  const sandbox = await scene.provider.create(sandboxSpec({ ...trusted, name, tags: { session } }));
  const [record] = await scene.provider.list({ session });
  assert.deepEqual([record?.name, record?.tags["session"]], [name, session]);
  const [made] = scene.emulator.sandboxes();
  assert.match(made?.name ?? "", /^[A-Za-z0-9._-]{1,63}$/);
  assert.equal((await (await scene.another()).find(name))?.id, sandbox.id);
  assert.equal(statSync(join(scene.stateFolder, "modal/installation")).mode & 0o777, 0o600);
});

test("a list that cannot be had is an error, and not an empty one", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  await scene.provider.create(sandboxSpec({ ...trusted, name: "there" }));
  const hostEnvironment = { ...scene.emulator.environment, MODAL_SERVER_URL: `http://127.0.0.1:${await freePort()}` };
  await using unreachable = await createProvider("modal", { stateFolder: scene.stateFolder, hostEnvironment });
  await assert.rejects(unreachable.list(), { name: "SandboxError", message: /could not be reached/ });
  await assert.rejects(unreachable.find("there"), { name: "SandboxError", message: /could not be reached/ });
});
