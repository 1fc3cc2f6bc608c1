import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { variableOf } from "../../src/config/schema.ts";
import { openInstallation } from "../../src/sandbox/modal/installation.ts";
import { ended } from "../helpers/cli.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { liveApp } from "./account.ts";
import { askedGpu, Cloud, maxLifetimeMs } from "./cloud.ts";
import { runningInApp } from "./sweep.ts";

const program = join(import.meta.dirname, "../../bin/modal-sb.js");
const settings = { cpuCores: 1, memoryMiB: 2048 };
/** of the proxy, as src/sandbox/modal/resources.ts has it */
const trusted = { cpuCores: 0.25, memoryMiB: 512 };
const trustedLifetimeMs = maxLifetimeMs + 600_000;
const volumeKinds = ["data", "app", "trackio", "audit", "syncer"];

test("a whole session: one turn on the cheapest GPU, an answer, nothing left running", async (context) => {
  const { gpu } = askedGpu();
  if (gpu === undefined) {
    context.skip("MODAL_SB_LIVE_GPU=1 asks for it; it needs the Modal Secret anthropic-secret, or ANTHROPIC_API_KEY");
    return;
  }
  await using cloud = await Cloud.open();
  await using home = await temporaryFolder();
  await mkdir(join(home.path, "project"));
  const name = `live-${randomBytes(4).toString("hex")}`;
  const stateFolder = join(home.path, "state");
  const installation = openInstallation(stateFolder);
  for (const kind of volumeKinds) cloud.adoptVolume(installation.volumeName(`${name}-${kind}`));
  cloud.charge("the agent of a session", maxLifetimeMs, { gpu, ...settings });
  cloud.charge("the trusted proxy of a session", trustedLifetimeMs, trusted);
  const startedAt = Date.now();
  const argv = ["--on", "modal", "--gpu", gpu, "-s", name, "-p", 'Reply with the one word "ready".'];
  const child = spawn(process.execPath, [program, ...argv], {
    cwd: join(home.path, "project"),
    env: environment(home.path, stateFolder),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { code, stdout, stderr } = await ended(child);
  context.diagnostic(`a session on a ${gpu}: ended with ${code} after ${Date.now() - startedAt} ms`);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /ready/i);
  assert.deepEqual(await runningInApp(cloud.account()), []);
});

/** A home of its own, with the account and the key that the suite was given. */
function environment(home: string, stateFolder: string): NodeJS.ProcessEnv {
  const given = Object.entries(process.env).filter(
    ([name]) => (name.startsWith("MODAL_") && !name.startsWith("MODAL_SB_")) || name === "ANTHROPIC_API_KEY",
  );
  return {
    PATH: process.env["PATH"],
    PIP_CONFIG_FILE: process.env["PIP_CONFIG_FILE"],
    HOME: home,
    MODAL_CONFIG_PATH: join(homedir(), ".modal.toml"),
    ...Object.fromEntries(given),
    // a key that was given here goes before one that the workspace keeps
    [variableOf("secrets")]: process.env["ANTHROPIC_API_KEY"] ? "inline" : "stored",
    [variableOf("stateFolder")]: stateFolder,
    [variableOf("modalApp")]: liveApp,
    [variableOf("cpuCores")]: String(settings.cpuCores),
    [variableOf("memoryMiB")]: String(settings.memoryMiB),
    [variableOf("lifetimeMinutes")]: String(maxLifetimeMs / 60_000),
    [variableOf("maxTurns")]: "2",
    [variableOf("budgetUsd")]: "1",
  };
}
