/** How a sandbox's end is told: Modal's states in our words. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { SandboxSpec } from "../../../src/sandbox/provider.ts";
import { shellInside } from "../../helpers/run-inside.ts";
import { sandboxSpec } from "../../helpers/sandbox-spec.ts";
import { needsEmulator, openScene, serverCommand } from "./open-modal.ts";

const trusted: Partial<SandboxSpec> = { role: "syncer", egress: { kind: "host" } };
const onGpu: Partial<SandboxSpec> = { ...trusted, machine: { gpus: ["T4"], maxWaitMs: 60_000 } };
/** GenericStatus in Modal's proto */
const status = { terminated: 3, timeout: 4, idle: 7, memory: 8 };

test("every state that Modal ends a sandbox in is told apart", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const cases = [
    [trusted, status.terminated, "killed", /from elsewhere/],
    [onGpu, status.terminated, "preempted", /took its machine back/],
    [trusted, status.timeout, "lifetime", /lifetime of 420 min/],
    [trusted, status.idle, "idle", /for 10 min/],
    [trusted, status.memory, "memory", /1024 MiB|512 MiB/],
  ] as const;
  for (const [changes, state, reason, words] of cases) {
    const sandbox = await scene.provider.create(sandboxSpec(changes));
    await scene.emulator.kill(sandbox.id, state);
    const end = await sandbox.exited;
    assert.equal(end.reason, reason);
    assert.match(end.message, words);
    assert.equal(sandbox.status(), "ended");
  }
});

test("a GPU sandbox that is stopped was not preempted", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const sandbox = await scene.provider.create(sandboxSpec(onGpu));
  await sandbox.terminate();
  assert.equal((await sandbox.exited).reason, "terminated");
});

for (const changes of [trusted, onGpu]) {
  test(`the last output is there (${changes === onGpu ? "V1, with empty log items" : "V2"})`, async (context: TestContext) => {
    if (!(await needsEmulator(context))) return;
    await using scene = await openScene({ faults: { emptyLogItems: true } });
    // what comes on stdout may be read after all of stderr
    const command = ["sh", "-c", "echo problem >&2; seq 100000; exit 3"];
    const sandbox = await scene.provider.create(sandboxSpec({ ...changes, command }));
    const { code, reason, outputTail } = await sandbox.exited;
    assert.deepEqual([code, reason], [3, "exited"]);
    // as it was read while it ran, and not from the log that Modal keeps
    assert.equal(
      scene.emulator.calls.some(({ method }) => method === "AppFetchLogs"),
      false,
    );
    assert.match(outputTail, /99999\n100000\nproblem\n$/);
    assert.ok(Buffer.byteLength(outputTail) <= 8 * 1024);
    assert.match((await scene.provider.logs(sandbox)) ?? "", /100000\n/);
  });
}

test("a control plane that does not answer is no end", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const sandbox = await scene.provider.create(sandboxSpec(trusted));
  scene.emulator.faults.throttle = 3;
  await scene.emulator.waitFor(({ faults }) => faults.throttle === 0);
  assert.equal(sandbox.status(), "running");
  assert.equal((await shellInside(sandbox, "echo here")).stdout, "here\n");
  await sandbox.terminate();
  assert.equal((await sandbox.exited).reason, "terminated");
});

test("a sandbox that no process of the host is in idles out", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  await scene.provider.create(sandboxSpec(trusted));
  assert.equal(scene.emulator.sandboxes()[0]?.idleTimeoutSecs, 600);
});

test("a hold keeps a process in the sandbox, which outlives the handle and has no secret; a later one takes its place", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const first = await scene.another();
  const sandbox = await first.create(sandboxSpec({ ...trusted, name: "held" }));
  await sandbox.hold(300_000, true);
  await sandbox.release();
  await first[Symbol.asyncDispose]();
  const found = await scene.provider.find("held");
  assert.ok(found);
  const seen = await shellInside(found, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
  assert.match(seen.stdout, /sleep 300 /);
  await found.hold(100_000);
  await found.hold(200_000, true);
  const sleeps = async () => (await shellInside(found, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout;
  await until(
    async () =>
      (await sleeps()).includes("sleep 100 ") &&
      (await sleeps()).includes("sleep 200 ") &&
      !(await sleeps()).includes("sleep 300 "),
  );
});

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 180_000;
  while (!(await isSo())) assert.ok(Date.now() < deadline, "it never came to be so");
}

test("the lease is renewed while this process lives", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  await (await scene.provider.create(sandboxSpec(trusted))).terminate();
  context.mock.timers.enable({ apis: ["setInterval"] });
  const sandbox = await scene.provider.create(sandboxSpec(trusted));
  const starts = () => scene.emulator.calls.filter(({ method }) => method === "TaskExecStart").length;
  const before = starts();
  context.mock.timers.tick(120_000);
  context.mock.timers.tick(120_000);
  context.mock.timers.reset();
  await scene.emulator.waitFor(() => starts() === before + 2);
  assert.match((await shellInside(sandbox, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout, /sleep 300 /);
});

test("with Modal's older backend for all, everything goes on as before", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({}, { sandboxesV2: false });
  const sandbox = await scene.provider.create(
    sandboxSpec({ role: "proxy", egress: { kind: "host" }, name: "old", ports: [8080], ...serverCommand }),
  );
  assert.equal(scene.emulator.sandboxes()[0]?.backend, "v1");
  assert.equal((await shellInside(sandbox, "curl -sS http://127.0.0.1:8080/")).stdout, "served");
  assert.deepEqual(
    (await scene.provider.list()).map(({ id }) => id),
    [sandbox.id],
  );
  assert.equal((await (await scene.another()).find("old"))?.id, sandbox.id);
  await sandbox.terminate();
  assert.deepEqual(await scene.provider.list(), []);
});
