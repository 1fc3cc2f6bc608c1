/** Credentials on their way to a trusted sandbox. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { SandboxSpec } from "../../../src/sandbox/provider.ts";
import { Secret } from "../../../src/secret.ts";
import { shellInside } from "../../helpers/run-inside.ts";
import { sandboxSpec } from "../../helpers/sandbox-spec.ts";
import { needsEmulator, openScene } from "./open-modal.ts";

const onGpu: Partial<SandboxSpec> = { machine: { gpus: ["T4"], maxWaitMs: 60_000 } };

for (const backend of ["v2", "v1"] as const) {
  test(`stored and inline secrets are files, and in no process's environment (${backend})`, async (context: TestContext) => {
    if (!(await needsEmulator(context))) return;
    await using scene = await openScene({
      secrets: { "anthropic-secret": { ANTHROPIC_API_KEY: "stored 'canary' $HOME \"x\"\\n" } },
    });
    const sandbox = await scene.provider.create(
      sandboxSpec({
        role: "proxy",
        egress: { kind: "host" },
        secrets: {
          API_KEY: { storedAs: "anthropic-secret", key: "ANTHROPIC_API_KEY" },
          OTHER: new Secret("inline 'canary' $(id)\nsecond line"),
        },
        ...(backend === "v1" && onGpu),
      }),
    );
    assert.equal(scene.emulator.sandboxes()[0]?.backend, backend);
    const seen = async (script: string) => (await shellInside(sandbox, script)).stdout;
    assert.equal(await seen("cat /run/secrets/API_KEY"), "stored 'canary' $HOME \"x\"\\n");
    assert.equal(await seen("cat /run/secrets/OTHER"), "inline 'canary' $(id)\nsecond line");
    assert.equal(await seen("stat -c '%a' /run/secrets/API_KEY /run/secrets"), "600\n700\n");
    await sandbox.hold(200_000);
    await seen("until pgrep -f '^sleep 200$'; do sleep 0.05; done");
    // process 1 is the platform's
    const others = "for p in /proc/[0-9]*; do [ $p = /proc/1 ] || cat $p/environ $p/cmdline; done 2>/dev/null";
    assert.doesNotMatch(await seen(others), /canary/);
    assert.equal(await seen("env | grep -c MODAL_SB_SECRET"), "0\n");
    const { calls } = scene.emulator;
    assert.doesNotMatch(JSON.stringify([calls, await scene.provider.list()]), /canary/);
  });
}

test("a stored secret that is missing, or lacks the variable, is an error with the command that mends it", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ secrets: { "hf-secret": { OTHER: "x" } } });
  for (const [storedAs, key] of [
    ["anthropic-secret", "ANTHROPIC_API_KEY"],
    ["hf-secret", "HF_TOKEN"],
  ] as const) {
    const spec = sandboxSpec({ role: "proxy", egress: { kind: "host" }, secrets: { KEY: { storedAs, key } } });
    await assert.rejects(scene.provider.create(spec), {
      name: "SandboxError",
      hint: `modal secret create ${storedAs} ${key}=…`,
    });
  }
  assert.deepEqual(scene.emulator.sandboxes(), []);
});

test("an agent gets no secret", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  await assert.rejects(
    scene.provider.create(sandboxSpec({ secrets: { KEY: new Secret("canary") } })),
    /holds no secret/,
  );
  assert.deepEqual(scene.emulator.sandboxes(), []);
});
