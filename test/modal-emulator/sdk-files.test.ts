import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Emulator, startEmulator, whyNot } from "./emulator.ts";
import { type Connection, connect, output } from "./sdk-client.ts";

const reason = await whyNot();

describe("files and large outputs in the emulator's sandboxes", { skip: reason ?? false }, () => {
  let emulator: Emulator;
  let modal: Connection;
  before(async () => {
    emulator = await startEmulator();
    modal = await connect(emulator);
  });
  after(async () => {
    modal.client.close();
    await emulator[Symbol.asyncDispose]();
  });

  test("the SDK's filesystem writes, reads, lists, removes, and says what is wrong", async () => {
    const { SandboxFilesystemNotFoundError, SandboxFilesystemDirectoryNotEmptyError } = await import("modal");
    const { filesystem } = await modal.create();
    await filesystem.writeText("text ä", "/made/here/file");
    assert.equal(await filesystem.readText("/made/here/file"), "text ä");
    const large = new Uint8Array(3_000_000).fill(7);
    await filesystem.writeBytes(large, "/made/large");
    assert.equal((await filesystem.stat("/made/large")).size, large.length);
    const names = (await filesystem.listFiles("/made")).map(({ name, type }) => `${name} ${type}`);
    assert.deepEqual(names, ["here directory", "large file"]);
    await assert.rejects(filesystem.readText("/absent"), SandboxFilesystemNotFoundError);
    await assert.rejects(filesystem.remove("/made"), SandboxFilesystemDirectoryNotEmptyError);
    await filesystem.remove("/made", { recursive: true });
    await assert.rejects(filesystem.stat("/made"), SandboxFilesystemNotFoundError);
  });

  test("a process whose output nobody reads does not end", async () => {
    const sandbox = await modal.create();
    const unread = await sandbox.exec(["sh", "-c", "head -c 1000000 /dev/zero; touch /ended"]);
    const read = await sandbox.exec(["head", "-c", "20000000", "/dev/zero"], { mode: "binary" });
    assert.equal((await read.stdout.readBytes()).length, 20_000_000);
    assert.equal((await output(sandbox, "test", "-e", "/ended")).code, 1);
    assert.equal((await unread.stdout.readText()).length, 1_000_000);
    assert.equal(await unread.wait(), 0);
  });

  test("of a V2 main process's output the newest part is kept", async () => {
    emulator.faults.stdioRetainedBytes = 1000;
    const sandbox = await modal.create({ command: ["sh", "-c", "seq 1 10000; echo last; exec sleep 1000"] });
    let kept = "";
    while (!kept.endsWith("last\n")) {
      kept = "";
      for await (const { message } of sandbox.logs.tail({ entries: 1000 })) kept += message;
    }
    const reader = sandbox.stdout.getReader();
    let read = "";
    while (!read.endsWith("last\n")) read += (await reader.read()).value;
    assert.ok(read.length <= 1000, `${read.length}`);
    await reader.cancel();
  });

  test("too many arguments are refused by the server too", async () => {
    await assert.rejects(modal.create({ command: ["echo", "x".repeat(65_537)] }), /CMD arguments/);
    await assert.rejects(modal.create({ timeoutMs: 25 * 3600 * 1000 }), /24 hours/);
  });
});
