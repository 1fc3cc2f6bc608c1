/** Volumes at Modal: whose they are, which kind, and that a busy one is waited for. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { BusyError } from "../../../src/errors.ts";
import type { SandboxSpec } from "../../../src/sandbox/provider.ts";
import { shellInside } from "../../helpers/run-inside.ts";
import { sandboxSpec } from "../../helpers/sandbox-spec.ts";
import { needsEmulator, openScene } from "./open-modal.ts";

const trusted: Partial<SandboxSpec> = { role: "syncer", egress: { kind: "host" } };

test("a volume bears the installation's mark, commits on sync, and is held by one process", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const other = await scene.another();
  assert.equal(await other.peek("s1-data"), undefined);
  const volume = await scene.provider.volume("s1-data");
  assert.equal(volume.hostPath, undefined);
  const [made] = scene.emulator.volumes();
  assert.match(made?.name ?? "", /^modal-sb-[0-9a-f]{6}-s1-data$/);
  assert.equal(made?.version, 2);
  await assert.rejects(other.volume("s1-data"), BusyError);
  assert.equal((await other.peek("s1-data"))?.name, "s1-data");
  await volume[Symbol.asyncDispose]();
  await (await other.volume("s1-data"))[Symbol.asyncDispose]();
  assert.equal(scene.emulator.volumes().length, 1);
});

test("a reload is tried again while files are open, and told in words when they stay open", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ faults: { reloadBusy: 2 } });
  await using volume = await scene.provider.volume("data");
  const reader = await scene.provider.create(
    sandboxSpec({ ...trusted, volumes: [{ volume, path: "/in", readOnly: true }] }),
  );
  await reader.refreshVolumes();
  assert.equal(scene.emulator.faults.reloadBusy, 0);
  assert.equal(scene.emulator.calls.filter(({ method }) => method === "TaskReloadVolumes").length, 3);
  await reader.terminate();
  await assert.rejects(reader.refreshVolumes(), /has ended/);
});

test("a variable that is too long for Modal is refused by its name", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const creation = scene.provider.create(sandboxSpec({ ...trusted, env: { CONFIG: "x".repeat(40_000) } }));
  await assert.rejects(creation, /variable CONFIG has 40000 characters/);
  assert.deepEqual(scene.emulator.sandboxes(), []);
});

test("only what the spec says is in an agent's environment and allowlist", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  process.env["CANARY_OF_THE_HOST"] = "canary";
  await using scene = await openScene();
  const sandbox = await scene.provider.create(
    sandboxSpec({
      env: { GIVEN: "1" },
      egress: { kind: "allow", hostnames: ["pypi.org", "*.hf.co"], proxy: { url: "https://ta-1.w.modal.host" } },
    }),
  );
  const [made] = scene.emulator.sandboxes();
  assert.deepEqual(made?.domains, ["ta-1.w.modal.host", "pypi.org", "*.hf.co"]);
  assert.deepEqual(Object.keys(made?.env ?? {}).sort(), ["GIVEN", "HOME", "LANG", "PATH", "TMPDIR", "USER"]);
  assert.doesNotMatch((await shellInside(sandbox, "env")).stdout, /canary|as-emulator|ak-emulator/);
});

test("what cannot be on Modal's list of hostnames is refused", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const refused = (hostnames: string[], words: RegExp) =>
    assert.rejects(scene.provider.create(sandboxSpec({ egress: { kind: "allow", hostnames } })), words);
  await refused(["127.0.0.1"], /cannot be let reach "127.0.0.1"/);
  await refused(["localhost"], /cannot be let reach "localhost"/);
  await refused(
    Array.from({ length: 101 }, (_, index) => `h${index}.example.com`),
    /101 hostnames.*takes 100/,
  );
});
