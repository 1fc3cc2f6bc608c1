import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Sandbox, Volume } from "modal";
import { type Emulator, startEmulator, whyNot } from "./emulator.ts";
import { type Connection, connect, output, printed } from "./sdk-client.ts";

const reason = await whyNot();

describe("volumes of the emulator", { skip: reason ?? false }, () => {
  let emulator: Emulator;
  let modal: Connection;
  before(async () => {
    emulator = await startEmulator({ commitEveryMs: 3_600_000 });
    modal = await connect(emulator);
  });
  after(async () => {
    modal.client.close();
    await emulator[Symbol.asyncDispose]();
  });

  async function pair(name: string): Promise<{ volume: Volume; writer: Sandbox; reader: Sandbox; committed: string }> {
    const volume = await modal.client.volumes.fromName(name, { createIfMissing: true, version: 2 });
    const writer = await modal.create({ volumes: { "/data": volume } });
    const reader = await modal.create({ gpu: "T4", volumes: { "/data": volume.withMountOptions({ readOnly: true }) } });
    const committed = emulator.volumes().find((known) => known.name === name)?.committedPath ?? "";
    return { volume, writer, reader, committed };
  }

  test("what is written is seen after sync and reload, not before", async () => {
    const { volume, writer, reader, committed } = await pair("visible");
    await printed(writer, "sh", "-c", "mkdir /data/a; echo 1 > /data/a/one; ln -s a/one /data/link");
    await reader.reloadVolumes();
    assert.equal(await printed(reader, "ls", "-A", "/data"), "");
    await printed(writer, "sync", "/data");
    assert.equal(readFileSync(join(committed, "a/one"), "utf8"), "1\n");
    assert.equal(await printed(reader, "ls", "-A", "/data"), "");
    await reader.reloadVolumes();
    assert.equal(await printed(reader, "cat", "/data/link"), "1\n");
    const later = await modal.create({ volumes: { "/data": volume } });
    assert.equal(await printed(later, "cat", "/data/a/one"), "1\n");
  });

  test("the end of a sandbox commits, also when it is terminated", async () => {
    const { writer, committed } = await pair("ending");
    await printed(writer, "sh", "-c", "echo last > /data/file");
    assert.ok(!existsSync(join(committed, "file")));
    await writer.terminate({ wait: true });
    assert.equal(readFileSync(join(committed, "file"), "utf8"), "last\n");
  });

  test("deletions and changes in place arrive; the last writer of a file wins", async () => {
    const { volume, writer, reader } = await pair("changing");
    await printed(writer, "sh", "-c", "echo 1 > /data/kept; echo 1 > /data/gone; sync /data");
    const other = await modal.create({ volumes: { "/data": volume } });
    await printed(writer, "sh", "-c", "echo 2 >> /data/kept; rm /data/gone; echo w > /data/both; sync /data");
    await printed(other, "sh", "-c", "echo o > /data/both; echo mine > /data/other; sync /data");
    await reader.reloadVolumes();
    assert.equal(
      await printed(reader, "sh", "-c", "cd /data; head -n 9 *"),
      "==> both <==\no\n\n==> kept <==\n1\n2\n\n==> other <==\nmine\n",
    );
    await writer.reloadVolumes();
    assert.equal(await printed(writer, "cat", "/data/both", "/data/other"), "o\nmine\n");
  });

  test("a reload fails while a file is open or a working folder is inside", async () => {
    const { writer, reader } = await pair("busy");
    await printed(writer, "sh", "-c", "echo 1 > /data/file; sync /data");
    await reader.reloadVolumes();
    const holder = await reader.exec(["sh", "-c", "exec 5</data/file; echo open; read line"]);
    assert.equal((await holder.stdout.getReader().read()).value, "open\n");
    await assert.rejects(reader.reloadVolumes(), /busy/);
    await holder.stdin.close();
    await holder.wait();
    await reader.reloadVolumes();
    const inside = await reader.exec(["sh", "-c", "echo in; read line"], { workdir: "/data" });
    assert.equal((await inside.stdout.getReader().read()).value, "in\n");
    await assert.rejects(reader.reloadVolumes(), /busy/);
    await inside.stdin.close();
    await inside.wait();
  });

  test("a read-only mount refuses writes, a sub path shows its folder only", async () => {
    const { volume, writer, reader } = await pair("parts");
    await printed(writer, "sh", "-c", "mkdir -p /data/x/y; echo deep > /data/x/y/file; sync /data");
    assert.match((await output(reader, "touch", "/data/new")).stderr, /Read-only file system/);
    const part = await modal.create({ volumes: { "/part": volume.withMountOptions({ subPath: "x/y" }) } });
    assert.equal(await printed(part, "ls", "/part"), "file\n");
    await printed(part, "sh", "-c", "echo more > /part/more; sync /part");
    await reader.reloadVolumes();
    assert.equal(await printed(reader, "cat", "/data/x/y/more"), "more\n");
  });

  test("sync without a volume is the system's own", async () => {
    const { writer } = await pair("plain");
    assert.equal((await output(writer, "sync")).code, 0);
    assert.equal((await output(writer, "sync", "/usr/bin/env")).code, 0);
    assert.notEqual((await output(writer, "sync", "/absent")).code, 0);
  });

  test("an existing volume of another version is refused", async () => {
    await pair("versioned");
    const { InvalidError, NotFoundError } = await import("modal");
    await assert.rejects(modal.client.volumes.fromName("versioned", { version: 1 }), InvalidError);
    await assert.rejects(modal.client.volumes.fromName("unknown"), NotFoundError);
  });
});

describe("background commits of the emulator", { skip: reason ?? false }, () => {
  test("happen without being asked for", async () => {
    await using emulator = await startEmulator({ commitEveryMs: 100 });
    const modal = await connect(emulator);
    const volume = await modal.client.volumes.fromName("background", { createIfMissing: true });
    const writer = await modal.create({ volumes: { "/data": volume } });
    await printed(writer, "sh", "-c", "echo 1 > /data/file");
    const [{ committedPath = "" } = {}] = emulator.volumes();
    await emulator.waitFor(() => existsSync(join(committedPath, "file")));
    modal.client.close();
  });
});
