/** A command that is killed while its sandboxes come to be: what it leaves is found and ended, and costs nothing after that. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { ended } from "../../helpers/cli.ts";
import { assertNothingRuns, modalSession, runningOf, untilNothingRuns } from "../../helpers/modal-session.ts";
import { canEmulate, type ModalUser, modalUser } from "../../helpers/modal-user.ts";

interface Point {
  /** the call at whose start it happens, and which one of that method in the session */
  method: string;
  count: number;
}

/** From the first volume to the first process in the agent's sandbox, in their order. */
const points: readonly Point[] = [
  { method: "VolumeGetOrCreate", count: 2 },
  { method: "AppGetOrCreate", count: 1 },
  { method: "ImageGetOrCreate", count: 1 },
  { method: "SandboxCreateV2", count: 1 },
  { method: "SandboxWaitUntilReady", count: 1 },
  { method: "TaskExecStart", count: 1 },
  { method: "SecretGetOrCreate", count: 2 },
  { method: "SandboxCreate", count: 1 },
  { method: "SandboxGetTaskId", count: 2 },
  { method: "TaskGetCommandRouterAccess", count: 1 },
  { method: "TaskExecStart", count: 2 },
];
const wordsOf = ({ method, count }: Point) => `${method}-${count}`;

/** Begins a session on a GPU; `act` is called at the point. Resolves when the command has ended. */
async function reach(modal: ModalUser, name: string, point: Point, act: (child: ChildProcess) => void) {
  const child = modal.start(["--gpu", "A10", "-s", name, "-p", "hello"]);
  let seen = 0;
  const stop = modal.emulator.onCall(({ method }) => {
    if (method === point.method && ++seen === point.count) act(child);
  });
  child.stdin?.end();
  const { stderr } = await ended(child);
  stop();
  assert.ok(seen >= point.count, `${wordsOf(point)} was reached: ${stderr}`);
  return { code: child.exitCode, signal: child.signalCode, stderr };
}

test("killed at any point of creation: gc finds and ends what is left, once; the sessions can be opened again", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser({ faults: { gpuQueueMs: 1000 } });
  modal.env["MODAL_SB_CREATIONS_PER_HOUR"] = "1000";
  for (const point of points) {
    const { signal } = await reach(modal, wordsOf(point), point, (child) => child.kill("SIGKILL"));
    assert.equal(signal, "SIGKILL");
  }
  // a sandbox that nobody waits for comes to run all the same
  await modal.emulator.waitFor((emulator) =>
    emulator.sandboxes().every(({ running, taskId }) => !running || taskId !== ""),
  );
  const orphans = runningOf(modal);
  assert.ok(orphans.length >= 10, `${orphans.length} sandboxes are left`);
  const gc = await modal.run(["gc", "--yes"]);
  assert.equal(gc.code, 0, gc.stderr);
  for (const { id, tags } of orphans) {
    assert.match(gc.stdout, new RegExp(`REMOVE .*${id}`));
    assert.ok(gc.stderr.includes(`removed ${tags["role"]} ${id} of ${tags["session"]}\n`), gc.stderr);
  }
  assertNothingRuns(modal);
  const again = await modal.run(["gc", "--yes"]);
  assert.equal(again.code, 0);
  assert.match(again.stderr, /^Nothing to remove: no sandbox is running\.$/m);

  modal.emulator.faults.gpuQueueMs = 0;
  for (const [index, point] of points.entries()) {
    if (index % 3 !== 0) continue;
    const opened = await modal.run(["--gpu", "A10", "-s", wordsOf(point), "-p", "hello"]);
    assert.equal(opened.code, 0, opened.stderr);
    assert.equal(opened.stdout, "turn 1: You said: hello\n");
  }
  assertNothingRuns(modal);
});

test("killed, and opened again without gc: what is left is taken over or ended, never doubled", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  for (const point of [points[4], points[7], points[10]] as Point[]) {
    const name = wordsOf(point);
    await reach(modal, name, point, (child) => child.kill("SIGKILL"));
    await modal.emulator.waitFor((emulator) =>
      emulator.sandboxes().every(({ running, taskId }) => !running || taskId !== ""),
    );
    const opened = await modal.run(["--gpu", "A10", "-s", name, "-p", "hello"]);
    assert.equal(opened.code, 0, opened.stderr);
    assert.match(opened.stdout, /You said: hello\n$/);
    assertNothingRuns(modal);
  }
});

test("gc beside a session that waits for a GPU leaves it alone; when its command is killed, gc ends what still waits", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser({ faults: { gpuNeverFree: ["H100"] } });
  await using session = modalSession(modal, ["--gpu", "H100", "-s", "queued"]);
  const isQueued = () => runningOf(modal, "queued").some(({ gpu }) => gpu === "H100");
  session.talk.say("hello");
  await modal.emulator.waitFor(isQueued);
  const beside = await modal.run(["gc", "--yes"]);
  assert.equal(beside.code, 0, beside.stderr);
  assert.match(beside.stdout, new RegExp(`keep +queued +agent .*in use by process ${session.child.pid}`));
  assert.ok(isQueued());

  session.child.kill("SIGKILL");
  await once(session.child, "close");
  const [waiting] = runningOf(modal, "queued").filter(({ gpu }) => gpu === "H100");
  assert.equal(waiting?.taskId, "", "it waits still");
  const gc = await modal.run(["gc", "--yes"]);
  assert.equal(gc.code, 0, gc.stderr);
  assert.ok(gc.stderr.includes(`removed agent ${waiting?.id} of queued\n`), gc.stderr);
  await untilNothingRuns(modal);
});

test("SIGTERM at any point of creation leaves nothing, without gc", async (context) => {
  if (!(await canEmulate(context))) return;
  // still queued when the signal comes
  await using modal = await modalUser({ faults: { gpuQueueMs: 5000 } });
  modal.env["MODAL_SB_CREATIONS_PER_HOUR"] = "1000";
  for (const point of points) {
    if (point === points[9]) modal.emulator.faults.gpuQueueMs = 0;
    const { code, signal, stderr } = await reach(modal, wordsOf(point), point, (child) => child.kill("SIGTERM"));
    assert.deepEqual({ code, signal }, { code: 143, signal: null }, `${wordsOf(point)}: ${stderr}`);
    await untilNothingRuns(modal);
    assert.doesNotMatch(stderr, /bug in modal-sb|^ +at /m);
  }
});

test("Ctrl-C twice at any point of creation leaves nothing, without gc", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser({ faults: { gpuQueueMs: 5000 } });
  modal.env["MODAL_SB_CREATIONS_PER_HOUR"] = "1000";
  for (const point of points) {
    if (point === points[9]) modal.emulator.faults.gpuQueueMs = 0;
    const pressTwice = async (child: ChildProcess) => {
      child.kill("SIGINT");
      // as fast as a finger is: two signals at once are one
      await Promise.race([once(child, "exit"), pause(150)]);
      child.kill("SIGINT");
    };
    const { code, signal, stderr } = await reach(modal, wordsOf(point), point, (child) => void pressTwice(child));
    assert.ok(code === 130 || signal === "SIGINT", `${wordsOf(point)} ended with ${code} ${signal}: ${stderr}`);
    await untilNothingRuns(modal);
    assert.doesNotMatch(stderr, /bug in modal-sb|^ +at /m);
  }
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`${signal} once more while the sandboxes are being ended: they are ended all the same`, async (context) => {
    if (!(await canEmulate(context))) return;
    await using modal = await modalUser();
    await using session = modalSession(modal, ["--gpu", "A10", "-s", "impatient"]);
    await session.turn("hello");
    const isAsked = new Promise<void>((resolve) => {
      const stop = modal.emulator.onCall(({ method }) => {
        if (!/^(TaskExecStart|SandboxTerminate)/.test(method)) return;
        stop();
        resolve();
      });
    });
    session.child.kill(signal);
    await isAsked;
    session.child.kill(signal);
    const [code] = (await once(session.child, "close")) as [number | null];
    assert.equal(code, signal === "SIGINT" ? 130 : 143, session.talk.stderr());
    if (signal === "SIGINT") assert.match(session.talk.stderr(), /^ending the sandboxes …; Ctrl-C again leaves them/m);
    await untilNothingRuns(modal);
  });
}
