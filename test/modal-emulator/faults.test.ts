import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { type Emulator, startEmulator, whyNot } from "./emulator.ts";
import { noFaults } from "./faults.ts";
import { type Connection, connect, printed } from "./sdk-client.ts";

const reason = await whyNot();

describe("faults of the emulator", { skip: reason ?? false }, () => {
  let emulator: Emulator;
  let modal: Connection;
  beforeEach(async () => {
    emulator = await startEmulator();
    modal = await connect(emulator);
  });
  afterEach(async () => {
    modal.client.close();
    await emulator[Symbol.asyncDispose]();
  });
  const count = (method: string) => emulator.calls.filter((call) => call.method === method).length;

  test("a GPU sandbox is queued, and can be terminated there", async () => {
    emulator.faults.gpuNeverFree.push("H100", "T4");
    const waiting = modal.create({ gpu: "H100", name: "queued" });
    const refused = assert.rejects(waiting, /Sandbox was terminated/);
    const later = modal.create({ gpu: "T4" });
    await emulator.waitFor(() => count("SandboxGetTaskId") >= 4);
    emulator.faults.gpuNeverFree.pop();
    const free = await later;
    assert.equal(await free.poll(), null);
    const found = await modal.client.sandboxes.fromName("test-app", "queued");
    assert.equal(await found.poll(), null);
    await found.terminate();
    await refused;
    assert.equal(await found.poll(), 137);
  });

  test("no capacity", async () => {
    emulator.faults.noCapacity = true;
    await assert.rejects(modal.create({ gpu: "H100" }), /Insufficient capacity/);
  });

  for (const kind of [{ gpu: "T4" }, {}])
    test(`a lost answer to a create makes one sandbox (${kind.gpu ? "V1" : "V2"})`, async () => {
      emulator.faults.loseCreateResponse = 2;
      const sandbox = await modal.create(kind);
      assert.deepEqual(
        emulator.sandboxes().map(({ id }) => id),
        [sandbox.sandboxId],
      );
      const creates = emulator.calls.filter((call) => call.method.startsWith("SandboxCreate"));
      assert.deepEqual(
        creates.map((call) => call.status),
        ["UNAVAILABLE", "UNAVAILABLE", "OK"],
      );
      assert.equal(new Set(creates.map((call) => call.idempotencyKey)).size, 1);
    });

  test("a delayed create is there before its answer", async () => {
    emulator.faults.createDelayMs = 1000;
    const creating = modal.create({ name: "late" });
    await emulator.waitFor(() => emulator.sandboxes().some((sandbox) => sandbox.taskId !== ""));
    assert.equal(emulator.calls.find((call) => call.method === "SandboxCreateV2")?.status, undefined);
    assert.equal((await creating).sandboxId, emulator.sandboxes()[0]?.id);
  });

  test("an empty log item stalls a reader of the SDK until it is asked once more", async () => {
    emulator.faults.emptyLogItems = true;
    const sandbox = await modal.create({ gpu: "T4", command: ["sh", "-c", "echo said; exec sleep 1000"] });
    const reader = sandbox.stdout.getReader();
    const values: (string | undefined)[] = [];
    let asked = 0;
    while (values.length === 0) {
      asked++;
      const read = reader.read().then(({ value }) => values.push(value));
      await Promise.race([read, new Promise((resolve) => setTimeout(resolve, 50))]);
    }
    assert.equal(values[0], "said\n");
    assert.ok(asked > 1);
    await reader.cancel();
  });

  for (const kind of [{ gpu: "T4" }, {}])
    test(`output survives resets of its streams (${kind.gpu ? "V1" : "V2"})`, async () => {
      emulator.faults.resetStreams = 4;
      const lines = Array.from({ length: 300 }, (_, index) => `line ${index}\n`).join("");
      const script = "for i in $(seq 0 299); do echo line $i; done";
      const sandbox = await modal.create({ ...kind, command: ["sh", "-c", `${script}; exec sleep 1000`] });
      const reader = sandbox.stdout.getReader();
      let read = "";
      while (read.length < lines.length) read += (await reader.read()).value;
      assert.equal(read, lines);
      assert.equal(await printed(sandbox, "sh", "-c", script), lines);
      // how many breaks there are depends on how many pieces the output comes in
      assert.ok(emulator.faults.resetStreams < 4);
      emulator.faults.resetStreams = 0;
      await reader.cancel();
    });

  test("an expired token of the router is fetched again", async () => {
    const sandbox = await modal.create();
    emulator.faults.routerTokenExpires = 1;
    assert.equal(await printed(sandbox, "echo", "1"), "1\n");
    assert.ok(emulator.calls.some((call) => call.status === "UNAUTHENTICATED"));
  });

  test("a throttled call is sent again after the time that the server gives", async () => {
    emulator.faults.throttle = 6;
    await modal.create();
    const throttled = emulator.calls.filter((call) => call.status === "RESOURCE_EXHAUSTED");
    assert.equal(throttled.length, 6);
    assert.equal(new Set(throttled.map((call) => call.idempotencyKey)).size, 1);
  });

  test("a build fails with given words", async () => {
    emulator.faults.buildFails = "no space left on the builder";
    const image = modal.image.dockerfileCommands([`RUN echo ${Date.now()}`]);
    await assert.rejects(image.build(modal.app), /no space left on the builder/);
  });

  test("a reload is busy", async () => {
    const volume = await modal.client.volumes.fromName("v", { createIfMissing: true });
    const sandbox = await modal.create({ volumes: { "/data": volume } });
    emulator.faults.reloadBusy = 1;
    await assert.rejects(sandbox.reloadVolumes(), /busy/);
    await sandbox.reloadVolumes();
  });

  test("preemption ends everything in a sandbox, and commits its volumes", async () => {
    const volume = await modal.client.volumes.fromName("v", { createIfMissing: true });
    const sandbox = await modal.create({ gpu: "H100", volumes: { "/data": volume } });
    const working = await sandbox.exec(["sh", "-c", "echo 1 > /data/file; echo ready; sleep 1000"]);
    await working.stdout.getReader().read();
    await emulator.preempt(sandbox.sandboxId);
    assert.equal(await sandbox.wait(), 137);
    await assert.rejects(sandbox.exec(["true"]), /NOT_FOUND/);
    const next = await modal.create({ volumes: { "/data": volume } });
    assert.equal(await printed(next, "cat", "/data/file"), "1\n");
  });

  test("the lifetime ends a sandbox", async () => {
    const sandbox = await modal.create({ timeoutMs: 1000 });
    assert.equal(await sandbox.wait(), 124);
    assert.equal(emulator.sandboxes()[0]?.result?.status, 4);
  });

  test("idleness ends a sandbox whose main process works; an exec keeps it", async (context) => {
    context.mock.timers.enable({ apis: ["Date"], now: Date.now() });
    const options = { idleTimeoutMs: 600_000, command: ["sh", "-c", "while :; do sleep 0.1; done"] };
    const kept = await modal.create(options);
    const working = await kept.exec(["cat"]);
    const idle = await modal.create(options);
    context.mock.timers.tick(700_000);
    await idle.wait();
    assert.equal(await kept.poll(), null);
    await working.stdin.close();
    assert.equal(await working.wait(), 0);
    context.mock.timers.tick(700_000);
    await kept.wait();
    assert.deepEqual(
      emulator.sandboxes().map(({ result }) => result?.status),
      [7, 7],
    );
  });

  test("memory over the limit ends a sandbox", async (context) => {
    const sandbox = await modal.create({ memoryMiB: 64, memoryLimitMiB: 64 });
    const hungry = await sandbox.exec(["perl", "-e", "$x = 'x' x (200 * 1024 * 1024); print length $x"]);
    const said = await hungry.stdout.readText();
    if (said) return context.skip("this machine has no control groups for memory");
    assert.equal(await sandbox.wait(), 137);
    assert.equal(emulator.sandboxes()[0]?.result?.status, 8);
  });

  test("all are off at first", () => {
    assert.deepEqual(emulator.faults, noFaults());
  });
});
