/** Processes beside the main one: much output, much input, long arguments, and the end of the sandbox under them. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import type { Sandbox, SandboxSpec } from "../../../src/sandbox/provider.ts";
import { runInside, shellInside } from "../../helpers/run-inside.ts";
import { sandboxSpec } from "../../helpers/sandbox-spec.ts";
import { needsEmulator, openScene, type Scene } from "./open-modal.ts";

const trusted: Partial<SandboxSpec> = { role: "syncer", egress: { kind: "host" } };
const bytes = 50 * 1024 * 1024;

function withSandbox(title: string, body: (sandbox: Sandbox, scene: Scene) => Promise<void>): void {
  test(title, async (context: TestContext) => {
    if (!(await needsEmulator(context))) return;
    await using scene = await openScene();
    await body(await scene.provider.create(sandboxSpec(trusted)), scene);
  });
}

withSandbox("50 MB come out whole, also when a token runs out, and wait for their reader", async (sandbox, scene) => {
  scene.emulator.faults.routerTokenExpires = 1;
  const process = await sandbox.exec([
    "sh",
    "-c",
    `head -c ${bytes} /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null | tee /tmp/copy`,
  ]);
  process.stderr.resume();
  const hash = createHash("sha256");
  let size = 0;
  let largestBuffer = 0;
  for await (const chunk of process.stdout as AsyncIterable<Buffer>) {
    hash.update(chunk);
    size += chunk.length;
    largestBuffer = Math.max(largestBuffer, process.stdout.readableLength);
  }
  assert.deepEqual(await process.exited, { code: 0, signal: null });
  assert.equal(size, bytes);
  assert.equal(`${hash.digest("hex")}  /tmp/copy\n`, (await shellInside(sandbox, "sha256sum /tmp/copy")).stdout);
  // a chunk of the transport at most beyond what a Readable holds
  assert.ok(largestBuffer <= 8 * 1024 * 1024, String(largestBuffer));
});

withSandbox("output comes out whole and once when its stream breaks off", async (sandbox, scene) => {
  scene.emulator.faults.resetStreams = 2;
  const process = await sandbox.exec(["sh", "-c", "for i in 1 2 3 4 5; do seq 1000; read line; done"]);
  const expected = Array.from({ length: 1000 }, (_, index) => `${index + 1}\n`).join("");
  process.stderr.resume();
  let numbers = "";
  for await (const chunk of process.stdout as AsyncIterable<Buffer>) {
    numbers += chunk;
    // so that they come in pieces, each of which is followed by a break
    if (numbers.length % expected.length === 0) process.stdin.write("go on\n");
  }
  assert.deepEqual(await process.exited, { code: 0, signal: null });
  assert.equal(numbers, expected.repeat(5));
  assert.equal(scene.emulator.faults.resetStreams, 0);
});

withSandbox("50 MB go in whole, and wait for who takes them", async (sandbox) => {
  const process = await sandbox.exec(["sha256sum"]);
  const chunk = Buffer.alloc(1024 * 1024, "0123456789abcdef");
  const hash = createHash("sha256");
  let waits = 0;
  for (let index = 0; index < bytes / chunk.length; index++) {
    hash.update(chunk);
    if (process.stdin.write(chunk)) continue;
    waits++;
    await once(process.stdin, "drain");
  }
  process.stdin.end();
  const [line] = (await once(process.stdout, "data")) as [Buffer];
  assert.equal(line.toString(), `${hash.digest("hex")}  -\n`);
  assert.ok(waits > 10);
});

withSandbox("arguments that are too long for Modal are refused with words", async (sandbox) => {
  await assert.rejects(sandbox.exec(["echo", "x".repeat(66_000)]), {
    name: "SandboxError",
    message: /66\d{3} characters.*65536/,
    hint: /standard input/,
  });
  const fits = await runInside(sandbox, ["echo", "x".repeat(65_000)]);
  assert.equal(fits.stdout.length, 65_001);
});

withSandbox("a process ends with its sandbox, and its streams end", async (sandbox) => {
  const process = await sandbox.exec(["sh", "-c", "echo started; exec sleep 500"]);
  await once(process.stdout, "data");
  const ended = Promise.all([once(process.stdout.resume(), "end"), once(process.stderr.resume(), "end")]);
  await sandbox.terminate();
  const { code, signal } = await process.exited;
  assert.ok(code === 128 + 9 || signal === "SIGKILL", `${code} ${signal}`);
  await ended;
  process.stdin.write("into the void");
  process.kill("SIGTERM");
});

withSandbox("input for a process that has ended harms nothing", async (sandbox) => {
  const process = await sandbox.exec(["true"]);
  assert.deepEqual(await process.exited, { code: 0, signal: null });
  process.stdin.write("too late");
  process.stdin.end();
  assert.equal((await shellInside(sandbox, "echo fine")).stdout, "fine\n");
});

withSandbox("a signal ends a process as shells tell it, also at once", async (sandbox) => {
  const process = await sandbox.exec(["sleep", "500"]);
  process.kill("SIGTERM");
  const { code, signal } = await process.exited;
  assert.ok(code === 128 + 15 || signal === "SIGTERM", `${code} ${signal}`);
});
