import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { type Emulator, startEmulator, whyNot } from "./emulator.ts";
import { connect, printed } from "./sdk-client.ts";

const reason = await whyNot();

describe("the emulator itself", { skip: reason ?? false }, () => {
  test("tells the calls as they start, and waits for what a test wants", async () => {
    await using emulator = await startEmulator();
    const started: string[] = [];
    const forget = emulator.onCall(({ method }) => {
      started.push(method);
      if (method === "SandboxCreateV2") assert.equal(emulator.sandboxes().length, 0);
    });
    const modal = await connect(emulator);
    const sandbox = await modal.create();
    const done = emulator.waitFor(({ sandboxes }) => sandboxes.call(emulator).every(({ running }) => !running));
    forget();
    await sandbox.terminate();
    await done;
    assert.equal(started.at(-1), "SandboxCreateV2");
    assert.deepEqual(
      emulator.calls.slice(-2).map((call) => [call.method, call.status, call.sandboxId]),
      [
        ["SandboxCreateV2", "OK", sandbox.sandboxId],
        ["SandboxTerminateV2", "OK", sandbox.sandboxId],
      ],
    );
    modal.client.close();
  });

  test("an unexpected call makes its disposal fail", async () => {
    const emulator = await startEmulator();
    const modal = await connect(emulator);
    await assert.rejects(modal.client.queues.fromName("q", { createIfMissing: true }), /UNIMPLEMENTED/);
    assert.deepEqual(emulator.unexpected, ["QueueGetOrCreate"]);
    modal.client.close();
    await assert.rejects(
      async () => emulator[Symbol.asyncDispose](),
      /no handlers for calls that came: QueueGetOrCreate/,
    );
  });

  test("its disposal ends everything: processes, mounts, folders", async () => {
    const emulator = await startEmulator();
    const modal = await connect(emulator);
    const volume = await modal.client.volumes.fromName("v", { createIfMissing: true });
    const sandbox = await modal.create({ volumes: { "/data": volume }, encryptedPorts: [80] });
    await sandbox.exec(["sleep", "98765"]);
    await printed(sandbox, "true");
    modal.client.close();
    await emulator[Symbol.asyncDispose]();
    assert.deepEqual(commandsWith("98765"), []);
    assert.deepEqual(ownFolders(process.pid), []);
    assert.doesNotMatch(readFileSync("/proc/mounts", "utf8"), new RegExp(`modal-emulator-${process.pid}-`));
  });

  test("two at once, in one process, know nothing of each other", async () => {
    await using first = await startEmulator();
    await using second = await startEmulator();
    const one = await connect(first);
    const sandbox = await one.create({ name: "same" });
    const other = await connect(second);
    await other.create({ name: "same" });
    assert.equal(first.sandboxes().length, 1);
    assert.equal(second.sandboxes().length, 1);
    assert.equal(await sandbox.poll(), null);
    one.client.close();
    other.client.close();
  });

  test("killed by SIGKILL it leaves no process, and the next one sweeps its folder", async () => {
    const { child, emulator: pid, environment } = await start();
    const modal = await connect({ environment } as unknown as Emulator);
    const sandbox = await modal.create();
    await sandbox.exec(["sleep", "87654"]);
    await eventually(() => commandsWith("87654").length > 0);
    const ended = once(child, "exit");
    process.kill(pid, "SIGKILL");
    await ended;
    modal.client.close();
    await eventually(() => commandsWith("87654").length === 0);
    assert.equal(ownFolders(pid).length, 1);
    await using _next = await startEmulator();
    assert.deepEqual(ownFolders(pid), []);
  });

  test("as a process it runs until its stdin ends", async () => {
    const { child, environment } = await start();
    const modal = await connect({ environment } as unknown as Emulator);
    const sandbox = await modal.create();
    assert.equal(await printed(sandbox, "echo", "hello"), "hello\n");
    modal.client.close();
    child.stdin?.end();
    const [code] = await once(child, "exit");
    assert.equal(code, 0);
    assert.ok(!existsSync(environment["MODAL_CONFIG_PATH"] ?? ""));
  });
});

async function start() {
  const child = spawn(process.execPath, [join(import.meta.dirname, "emulator-main.ts")], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  return { child, emulator: child.pid as number, environment: JSON.parse(line) as Record<string, string> };
}

function ownFolders(pid: number): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith(`modal-emulator-${pid}-`));
}

function commandsWith(word: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8");
        return words.includes(word) ? [words] : [];
      } catch {
        return [];
      }
    });
}

async function eventually(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}
