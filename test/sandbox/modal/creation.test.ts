/** What may go wrong while a sandbox is made: nothing is left that costs money, and the words say what happened. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { BusyError, SandboxError, UsageError } from "../../../src/errors.ts";
import type { Machine, SandboxSpec } from "../../../src/sandbox/provider.ts";
import { sandboxSpec } from "../../helpers/sandbox-spec.ts";
import type { Emulator } from "../../modal-emulator/emulator.ts";
import { needsEmulator, openScene } from "./open-modal.ts";

const trusted: Partial<SandboxSpec> = { role: "syncer", egress: { kind: "host" } };

/** Of the trusted roles' small image, which is built faster. */
function specOn(gpus: readonly string[], changes: Partial<Machine> = {}): SandboxSpec {
  return sandboxSpec({ ...trusted, machine: { gpus, maxWaitMs: 60_000, ...changes } });
}

const running = (emulator: Emulator) => emulator.sandboxes().filter((sandbox) => sandbox.running);

test("an abort while Modal makes a sandbox ends it, though its answer comes later", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ faults: { createDelayMs: 1000 } });
  const abort = new AbortController();
  const creation = scene.provider.create(sandboxSpec(trusted), { signal: abort.signal });
  creation.catch(() => {});
  await scene.emulator.waitFor(({ calls }) => calls.some(({ method }) => method === "SandboxCreateV2"));
  abort.abort(new Error("changed my mind"));
  await assert.rejects(creation, /changed my mind/);
  assert.equal(scene.emulator.sandboxes().length, 1);
  await scene.emulator.waitFor((emulator) => running(emulator).length === 0);
  assert.deepEqual(await scene.provider.list(), []);
});

test("an abort while a GPU is waited for ends the sandbox in the queue", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ faults: { gpuNeverFree: ["H100"] } });
  const abort = new AbortController();
  const creation = scene.provider.create(specOn(["H100"]), { signal: abort.signal });
  creation.catch(() => {});
  await scene.emulator.waitFor(({ calls }) => calls.some(({ method }) => method === "SandboxGetTaskId"));
  abort.abort(new Error("changed my mind"));
  await assert.rejects(creation, /changed my mind/);
  await scene.emulator.waitFor((emulator) => emulator.sandboxes().every((sandbox) => sandbox.result !== undefined));
  assert.equal(scene.emulator.sandboxes().length, 1);
});

test("a lost answer to create makes no second sandbox", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ faults: { loseCreateResponse: 1 } });
  const sandbox = await scene.provider.create(sandboxSpec(trusted));
  assert.deepEqual(
    scene.emulator.sandboxes().map(({ id }) => id),
    [sandbox.id],
  );
});

for (const gpus of [[], ["A10"]]) {
  test(`a create whose answers are all lost leaves nothing (GPUs: ${gpus.length})`, async (context: TestContext) => {
    if (!(await needsEmulator(context))) return;
    await using scene = await openScene({ faults: { loseCreateResponse: 100 } });
    await assert.rejects(scene.provider.create(specOn(gpus)), (error: Error) => {
      assert.ok(error instanceof SandboxError);
      assert.match(error.message, /could not be reached/);
      return true;
    });
    await scene.emulator.waitFor((emulator) => emulator.sandboxes().every((sandbox) => sandbox.result !== undefined));
  });
}

test("kinds of GPU are tried in turn, and the one that was got is known", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ faults: { gpuNeverFree: ["H100"] } });
  const sandbox = await scene.provider.create(specOn(["H100", "A10"], { maxWaitMs: 30_000, regions: ["us-east"] }));
  assert.deepEqual(
    scene.emulator.sandboxes().map(({ gpu, running: isRunning, backend }) => [gpu, isRunning, backend]),
    [
      ["H100", false, "v1"],
      ["A10", true, "v1"],
    ],
  );
  const [record] = await scene.provider.list();
  assert.deepEqual([record?.id, record?.gpu], [sandbox.id, "A10"]);
  assert.ok((record?.usdPerHour ?? 0) > 1);
});

test("no GPU in time is an error that names them, and leaves none in the queue", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ faults: { gpuNeverFree: ["H100", "L4"] } });
  await assert.rejects(scene.provider.create(specOn(["H100", "L4"], { maxWaitMs: 2000 })), (error: SandboxError) => {
    assert.match(error.message, /no GPU of H100, L4 within 1 min/);
    assert.match(error.hint ?? "", /--gpu/);
    return true;
  });
  await scene.emulator.waitFor((emulator) => emulator.sandboxes().every((sandbox) => sandbox.result !== undefined));
});

test("when Modal refuses every kind at once it is asked again, which costs nothing of the hour's number", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ faults: { noCapacity: true } }, { creationsPerHour: 2 });
  const heard = Promise.withResolvers<string>();
  const abort = new AbortController();
  const spec = specOn(["H100", "A10"], { maxWaitMs: 600_000 });
  const creation = scene.provider.create(spec, { signal: abort.signal, onProgress: heard.resolve });
  creation.catch(() => {});
  assert.equal(await heard.promise, "no machine with H100 or A10 is free; asking again in 10 s");
  abort.abort(new Error("enough"));
  await assert.rejects(creation, /enough/);
  assert.equal(running(scene.emulator).length, 0);
  // the pause is over
  scene.emulator.faults.noCapacity = false;
  const sandbox = await scene.provider.create(spec);
  assert.equal(scene.emulator.sandboxes().at(-1)?.id, sandbox.id);
  await sandbox.terminate();
  await (await scene.provider.create(sandboxSpec(trusted))).terminate();
  await assert.rejects(scene.provider.create(sandboxSpec(trusted)), /3rd sandbox within an hour/);
});

test("while a GPU is waited for, words say so", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ faults: { gpuNeverFree: ["H100"] } });
  const heard: string[] = [];
  const abort = new AbortController();
  // an image that is built first would use up the mocked time
  await (await scene.provider.create(specOn([]))).terminate();
  context.mock.timers.enable({ apis: ["setInterval", "Date"], now: Date.now() });
  const creation = scene.provider.create(specOn(["H100", "A10"], { maxWaitMs: 600_000 }), {
    signal: abort.signal,
    onProgress: (words) => heard.push(words),
  });
  creation.catch(() => {});
  await scene.emulator.waitFor(({ calls }) => calls.some(({ method }) => method === "SandboxGetTaskId"));
  for (let step = 0; step < 6; step++) context.mock.timers.tick(15_000);
  context.mock.timers.reset();
  abort.abort(new Error("enough"));
  await assert.rejects(creation, /enough/);
  assert.deepEqual(
    [heard[0], heard.at(-1)],
    ["waiting for an H100 for 15 s; next: A10", "waiting for an H100 for 1 min 30 s; next: A10"],
  );
});

test("a kind of GPU that Modal does not have is refused at once, with the nearest name", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const refused = (gpu: string, hint: RegExp) =>
    assert.rejects(scene.provider.create(specOn([gpu])), (error: UsageError) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.hint ?? "", hint);
      return true;
    });
  await refused("H10", /did you mean H100\?/);
  await refused("A10G", /did you mean A10\?/);
  await refused("A10:5", /A10:4/);
  await refused("H100:0", /H100:8/);
  assert.deepEqual(scene.emulator.calls, []);
});

test("more sandboxes in an hour than allowed are refused, also by a process that starts anew", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({}, { creationsPerHour: 2 });
  const create = async () => (await scene.provider.create(sandboxSpec(trusted))).terminate();
  await create();
  await create();
  const fresh = await scene.another();
  for (const provider of [scene.provider, fresh]) {
    await assert.rejects(provider.create(sandboxSpec(trusted)), (error: SandboxError) => {
      assert.match(error.message, /refuses to make a 3rd sandbox within an hour/);
      assert.match(error.hint ?? "", /modal-sb gc/);
      return true;
    });
  }
  assert.equal(scene.emulator.sandboxes().length, 2);
  // what was more than an hour ago does not count, and a torn line harms nothing
  const path = join(scene.stateFolder, "modal/creations.ndjson");
  const hourAgo = new Date(Date.now() - 3_700_000).toISOString();
  const aged = readFileSync(path, "utf8").replaceAll(/"at":"[^"]*"/g, `"at":"${hourAgo}"`);
  writeFileSync(path, `${aged}{"at":"20`);
  await (await fresh.create(sandboxSpec(trusted))).terminate();
});

test("the intent is on the disk before Modal is asked", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const path = join(scene.stateFolder, "modal/creations.ndjson");
  let before = "";
  scene.emulator.onCall(({ method }) => {
    if (method === "SandboxCreateV2") before = readFileSync(path, "utf8");
  });
  const sandbox = await scene.provider.create(sandboxSpec({ ...trusted, name: "written" }));
  assert.match(before, /"name":"written"/);
  assert.ok(readFileSync(path, "utf8").includes(sandbox.id));
});

test("a name that another process of this installation uses is busy", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const other = await scene.another();
  await scene.provider.create(sandboxSpec({ ...trusted, name: "taken" }));
  await assert.rejects(other.create(sandboxSpec({ ...trusted, name: "taken" })), BusyError);
});

test("a main process that ends before it serves its port is a sandbox that has ended, with its words", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const command = ["sh", "-c", "echo no credential >&2; exit 4"];
  const sandbox = await scene.provider.create(sandboxSpec({ ...trusted, role: "proxy", ports: [8080], command }));
  const end = await sandbox.exited;
  assert.deepEqual([end.code, end.outputTail], [4, "no credential\n"]);
});

test("an abort while a main process does not come to serve leaves nothing", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const abort = new AbortController();
  const spec = sandboxSpec({ ...trusted, role: "proxy", ports: [8080] });
  const creation = scene.provider.create(spec, { signal: abort.signal });
  creation.catch(() => {});
  await scene.emulator.waitFor(({ calls }) => calls.some(({ method }) => method === "SandboxWaitUntilReady"));
  abort.abort(new Error("changed my mind"));
  await assert.rejects(creation, /changed my mind/);
  assert.equal(running(scene.emulator).length, 0);
});
