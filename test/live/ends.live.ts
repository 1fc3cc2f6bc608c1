import assert from "node:assert/strict";
import type { Sandbox } from "modal";
import { type Backend, backends, type Cloud, nameOf, run, shell } from "./cloud.ts";
import { msUntil, question } from "./question.ts";

const deadlineMs = 30_000;
/** how Modal's result of an end from outside reads, as src/sandbox/modal/end.ts takes it */
const ended = { code: 137, status: 3 };

question(10, async ({ cloud, answer }) => {
  answer("a preemption cannot be asked for; what follows is an end by SandboxTerminate");
  for (const backend of backends) {
    const volume = await cloud.volume();
    const script = `trap 'echo > /data/heard; exit 0' TERM; echo > /data/written; touch /tmp/ready; while :; do sleep 0.1; done`;
    const sandbox = await cloud.make(backend, { command: ["sh", "-c", script], volumes: { "/data": volume } });
    await untilReady(sandbox);
    const startedAt = Date.now();
    const waiting = (await cloud.handle(sandbox)).wait();
    await sandbox.terminate();
    const code = await waiting;
    const waitedMs = Date.now() - startedAt;
    const { status } = await resultOf(cloud, sandbox, backend);
    const later = await cloud.make("v2", { volumes: { "/data": volume } });
    const isCommitted = async () => {
      const there = await run(later, ["test", "-e", "/data/written"]);
      if (there.code !== 0) await later.reloadVolumes().catch(() => {});
      return there.code === 0;
    };
    const committedMs = await msUntil(isCommitted, deadlineMs);
    const there = await shell(later, "ls /data");
    answer(
      `${nameOf(backend)}: code ${code}, status ${status}, told after ${waitedMs} ms; SIGTERM is ${
        there.includes("heard") ? "" : "not "
      }heard; what was not synced is ${
        committedMs === undefined ? "lost" : `there ${committedMs} ms after the next sandbox's start`
      }`,
    );
    assert.deepEqual({ code, status }, ended);
  }
});

question(12, async ({ cloud, answer }) => {
  const rounds = cloud.isEmulator ? 2 : 6;
  for (const backend of backends) {
    const seen = new Map<string, number>();
    for (let round = 0; round < rounds; round++) {
      const script = "touch /tmp/ready; until [ -e /tmp/go ]; do sleep 0.01; done; exit 7";
      const sandbox = await cloud.make(backend, { command: ["sh", "-c", script] });
      await untilReady(sandbox);
      const going = run(sandbox, ["touch", "/tmp/go"]).catch(() => {});
      // in every second round the program has a head start
      if (round % 2 === 1) await going;
      await sandbox.terminate({ wait: true });
      const { status, exitcode } = await resultOf(cloud, sandbox, backend);
      const words = `status ${status} code ${exitcode}`;
      seen.set(words, (seen.get(words) ?? 0) + 1);
      assert.ok(
        status === ended.status || exitcode === 7 || exitcode === 137,
        `an end that we would misread: ${words}`,
      );
    }
    answer(`${nameOf(backend)}: ${[...seen].map(([words, count]) => `${count} × ${words}`).join(", ")}`);
  }
});

async function untilReady(sandbox: Sandbox): Promise<void> {
  const ms = await msUntil(async () => (await run(sandbox, ["test", "-e", "/tmp/ready"])).code === 0, deadlineMs);
  if (ms === undefined) throw new Error("its main process did not start");
}

async function resultOf(cloud: Cloud, { sandboxId }: Sandbox, backend: Backend) {
  const { cpClient } = cloud.account(backend).client;
  const request = { sandboxId, timeout: 10 };
  const { result } = backend === "v1" ? await cpClient.sandboxWait(request) : await cpClient.sandboxWaitV2(request);
  if (!result) throw new Error("it has no result after its end");
  return result;
}
