/** A sandbox that dies at each phase of the start: the session says so, leaves nothing, and can be started again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type ProcessInfo, processesOf, untilNone } from "../helpers/processes.ts";
import { type RunningSession, runningSession } from "../helpers/running-session.ts";

type Role = "agent" | "proxy";

/** The first process of that role's sandbox that fits; asks until there is one. */
async function processIn(
  running: RunningSession,
  role: Role,
  fits: (process: ProcessInfo) => boolean,
): Promise<{ pid: number; id: string }> {
  for (;;) {
    // other tests have sandboxes at the same time
    const record = (await running.provider.list({ session: running.session.name })).find(
      (found) => found.role === role,
    );
    const found = record && (await processesOf(new Set([record.id]))).find(fits);
    if (found) return { pid: found.pid, id: record.id };
    await delay(1);
  }
}

const phases: Record<string, [role: Role, fits: (process: ProcessInfo) => boolean]> = {
  "the agent's first process": ["agent", () => true],
  "the agent's bubblewrap": ["agent", ({ executable }) => executable.endsWith("/bwrap")],
  "the daemon": ["agent", ({ executable }) => executable.endsWith("/node")],
  "the proxy's first process": ["proxy", () => true],
  "the proxy's program": ["proxy", ({ executable }) => executable.endsWith("/node")],
};

for (const [name, [role, fits]] of Object.entries(phases)) {
  test(`${name} is killed while the session starts: one clear error, nothing left, and the next turn works`, async () => {
    await using running = await runningSession();
    const { pid, id } = await processIn(running, role, fits);
    process.kill(pid, "SIGKILL");
    await assert.rejects(running.session.ready, { name: "SandboxError" });
    assert.deepEqual(await untilNone(() => processesOf(new Set([id]))), []);
    assert.equal((await running.say("hello")).text, "turn 1: You said: hello");
  });
}

test("claude is killed while the session starts: it is started again, and the turn works", async () => {
  await using running = await runningSession();
  const { pid } = await processIn(running, "agent", ({ executable }) => executable.endsWith("/claude"));
  process.kill(pid, "SIGKILL");
  await running.session.ready;
  const end = await running.say("hello");
  assert.ok(end.result === "success" || (await running.say("hello")).result === "success");
});
