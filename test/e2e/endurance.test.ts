/** Many turns, many sessions at once, many sandboxes one after the other: nothing grows and nothing is left. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { openFiles, type ProcessInfo, processesOf, untilNone } from "../helpers/processes.ts";
import { type RunningSession, runningSession } from "../helpers/running-session.ts";
import { sandboxSpec } from "../helpers/sandbox-spec.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const ours = { daemon: "agent/daemon", proxy: "proxy/main" };

async function ourProcess(running: RunningSession, mark: string): Promise<ProcessInfo> {
  const ids = new Set([(await running.agent()).id, (await running.proxy()).id]);
  const found = (await processesOf(ids)).filter(
    ({ executable, command }) => /node$/.test(executable) && command.includes(mark),
  );
  assert.equal(found.length, 1, mark);
  return found[0] as ProcessInfo;
}

test("50 turns do not grow the daemon or the proxy in memory, nor them or the host in open files", async () => {
  await using running = await runningSession();
  const measure = async () => {
    const daemon = await ourProcess(running, ours.daemon);
    const proxy = await ourProcess(running, ours.proxy);
    return {
      memory: [daemon.residentMiB, proxy.residentMiB],
      files: await Promise.all([daemon.pid, proxy.pid, process.pid].map(openFiles)),
    };
  };
  for (let turn = 1; turn <= 10; turn += 1) await running.say(`turn ${turn}`);
  const before = await measure();
  for (let turn = 11; turn <= 50; turn += 1) {
    assert.equal((await running.say(`turn ${turn}`)).text, `turn ${turn}: You said: turn ${turn}`);
  }
  const after = await measure();
  // a connection more or less is open at any moment; one left by each turn would be forty
  for (const [index, files] of after.files.entries()) {
    assert.ok(files <= (before.files[index] as number) + 3, `${before.files} open files, later ${after.files}`);
  }
  for (const [index, memory] of after.memory.entries()) {
    const start = before.memory[index] as number;
    assert.ok(memory < start + 25, `${Object.keys(ours)[index]}: ${start} MiB, later ${memory} MiB`);
  }
});

test("our own processes of a session take at most 250 MiB together, beside claude's", async () => {
  await using running = await runningSession();
  await running.say("hello");
  const ids = new Set([(await running.agent()).id, (await running.proxy()).id]);
  const own = (await processesOf(ids)).filter(({ executable }) => !/claude$/.test(executable));
  const total = own.reduce((sum, { residentMiB }) => sum + residentMiB, 0);
  assert.ok(
    own.length >= 6 && total < 250,
    `${total} MiB in ${own.map(({ command }) => command.slice(0, 40)).join("; ")}`,
  );
});

test("ten sessions at once on this machine each have their own conversation", async () => {
  const sessions = await Promise.all(Array.from({ length: 10 }, () => runningSession()));
  try {
    await Promise.all(sessions.map((running, index) => running.say(`the number is ${index * 111}`)));
    const ends = await Promise.all(sessions.map((running) => running.say("again")));
    for (const [index, running] of sessions.entries()) {
      assert.equal(ends[index]?.text, "turn 2: You said: again");
      const body = JSON.stringify(running.api.requests.at(-1)?.body);
      assert.deepEqual(
        [...body.matchAll(/You said: the number is (\d+)/g)].map(([, number]) => number),
        [String(index * 111)],
      );
    }
  } finally {
    await Promise.all(sessions.map((running) => running[Symbol.asyncDispose]()));
  }
});

test("100 sandboxes made and ended leave no process, mount, socket or file", async () => {
  await using folder = await temporaryFolder();
  await using provider = await createProvider("local", { stateFolder: folder.path, hostEnvironment: process.env });
  const ids = new Set<string>();
  const filesBefore = await openFiles(process.pid);
  const run = async () => {
    for (let count = 0; count < 25; count += 1) {
      await using sandbox = await provider.create(sandboxSpec({ ports: [8080] }));
      ids.add(sandbox.id);
    }
  };
  await Promise.all([run(), run(), run(), run()]);
  assert.equal(ids.size, 100);
  assert.deepEqual(await untilNone(() => processesOf(ids)), []);
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  const running =
    process.getuid?.() === 0
      ? "/run/modal-sb"
      : join(process.env["XDG_RUNTIME_DIR"] ?? "/tmp", `modal-sb-${process.getuid?.()}`);
  for (const id of ids) {
    assert.ok(!mounts.includes(id), `a mount of ${id}`);
    assert.ok(!existsSync(join(running, id)), `files of ${id}`);
  }
  assert.deepEqual(await readdir(join(folder.path, "scratch")), []);
  assert.equal(await openFiles(process.pid), filesBefore);
});

test("a session that ends leaves no process, and none that an agent started in the background", async () => {
  const ids = new Set<string>();
  {
    await using running = await runningSession();
    await running.say("!bash setsid tail -f /dev/null > /dev/null 2>&1 & disown; echo started");
    ids.add((await running.agent()).id).add((await running.proxy()).id);
    assert.ok((await processesOf(ids)).some(({ command }) => command.startsWith("tail -f")));
  }
  assert.deepEqual(await untilNone(() => processesOf(ids)), []);
});
