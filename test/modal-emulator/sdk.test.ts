import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Emulator, startEmulator, whyNot } from "./emulator.ts";
import { type Connection, connect, output, printed } from "./sdk-client.ts";

const reason = await whyNot();

describe("the emulator and the SDK", { skip: reason ?? false }, () => {
  let emulator: Emulator;
  let modal: Connection;
  before(async () => {
    emulator = await startEmulator({ secrets: { keys: { API_KEY: "of-the-test", OTHER: "2" } } });
    modal = await connect(emulator);
  });
  after(async () => {
    modal.client.close();
    await emulator[Symbol.asyncDispose]();
  });

  for (const [backend, gpu] of [
    ["V1", "H100"],
    ["V2", undefined],
  ] as const) {
    const kind = gpu ? { gpu } : {};

    test(`${backend}: create, exec, environment, terminate`, async () => {
      const secrets = [
        await modal.client.secrets.fromName("keys"),
        await modal.client.secrets.fromObject({ OTHER: "three" }),
      ];
      const sandbox = await modal.create({ ...kind, secrets, env: { PLAIN: "yes" }, tags: { role: "agent" } });
      assert.match(sandbox.sandboxId, gpu ? /^sb-[0-9A-Za-z]{22}$/ : /^sb-01[0-9A-Z]{24}$/);
      const env = Object.fromEntries((await printed(sandbox, "env")).split("\n").map((line) => line.split("=")));
      assert.equal(env["API_KEY"], "of-the-test");
      assert.equal(env["OTHER"], "three");
      assert.equal(env["PLAIN"], "yes");
      assert.equal(env["MODAL_SANDBOX_ID"], sandbox.sandboxId);
      assert.deepEqual(await output(sandbox, "sh", "-c", "echo out; echo err >&2; exit 3"), {
        ...{ code: 3, stdout: "out\n", stderr: "err\n" },
      });
      assert.equal(await sandbox.poll(), null);
      await sandbox.terminate();
      assert.equal(await sandbox.wait(), 137);
      assert.equal(await sandbox.poll(), 137);
      assert.equal(emulator.sandboxes().find(({ id }) => id === sandbox.sandboxId)?.running, false);
    });

    test(`${backend}: stdin and output of the main process`, async () => {
      const sandbox = await modal.create({ ...kind, command: ["sh", "-c", "cat; echo done >&2; exit 7"] });
      await sandbox.stdin.writeText("one\n");
      await sandbox.stdin.writeText("two ä\n");
      await sandbox.stdin.close();
      assert.equal(await sandbox.stdout.readText(), "one\ntwo ä\n");
      assert.equal(await sandbox.stderr.readText(), "done\n");
      assert.equal(await sandbox.wait(), 7);
    });

    test(`${backend}: a short life loses no output`, async () => {
      for (let round = 0; round < 3; round++) {
        const sandbox = await modal.create({ ...kind, command: ["sh", "-c", "echo quick; echo err >&2"] });
        assert.equal(await sandbox.stdout.readText(), "quick\n");
        assert.equal(await sandbox.stderr.readText(), "err\n");
        assert.equal(await sandbox.wait(), 0);
      }
      const absent = await modal.create({ ...kind, command: ["no-such-program"] });
      assert.equal(await absent.wait(), 127);
    });

    test(`${backend}: names, tags, list`, async () => {
      const tags = { session: backend, role: "agent" };
      const sandbox = await modal.create({ ...kind, name: `named-${backend}`, tags });
      const { AlreadyExistsError, NotFoundError } = await import("modal");
      await assert.rejects(modal.create({ ...kind, name: `named-${backend}` }), AlreadyExistsError);
      const found = await modal.client.sandboxes.fromName("test-app", `named-${backend}`);
      assert.equal(found.sandboxId, sandbox.sandboxId);
      assert.deepEqual(await sandbox.getTags(), tags);
      await sandbox.setTags({ ...tags, more: "1" });
      assert.deepEqual(await listed({ session: backend, more: "1" }), [sandbox.sandboxId]);
      assert.deepEqual(await listed({ session: backend, more: "2" }), []);
      await sandbox.terminate({ wait: true });
      assert.deepEqual(await listed({ session: backend }), []);
      await assert.rejects(modal.client.sandboxes.fromName("test-app", `named-${backend}`), NotFoundError);
      const again = await modal.create({ ...kind, name: `named-${backend}` });
      assert.notEqual(again.sandboxId, sandbox.sandboxId);
    });

    test(`${backend}: another handle reads the output from the beginning, and the logs`, async () => {
      const sandbox = await modal.create({
        ...kind,
        command: ["sh", "-c", "echo first; echo second >&2; exec sleep 100"],
      });
      const other = await modal.client.sandboxes.fromId(sandbox.sandboxId);
      const reader = other.stdout.getReader();
      assert.equal((await reader.read()).value, "first\n");
      await reader.cancel();
      await sandbox.terminate({ wait: true });
      const lines: string[] = [];
      for await (const { message, source } of sandbox.logs.tail({ entries: 5 })) lines.push(`${source}: ${message}`);
      assert.deepEqual(lines.sort(), ["stderr: second\n", "stdout: first\n"]);
      const since = new Date(Date.now() - 60_000);
      const fetched: string[] = [];
      for await (const { message } of sandbox.logs.fetch({ since, source: "stderr" })) fetched.push(message);
      assert.deepEqual(fetched, ["second\n"]);
    });

    test(`${backend}: exec's stdin, working folder, variables, signals, time limit`, async () => {
      const sandbox = await modal.create(kind);
      const process = await sandbox.exec(["sh", "-c", "pwd; echo $GREETING; cat; kill -9 $$"], {
        workdir: "/usr/lib",
        env: { GREETING: "hello" },
      });
      await process.stdin.writeText("to the exec");
      await process.stdin.close();
      assert.equal(await process.stdout.readText(), "/usr/lib\nhello\nto the exec");
      assert.equal(await process.wait(), 137);
      const absent = await sandbox.exec(["no-such-program"]);
      assert.equal(await absent.wait(), 127);
      const slow = await sandbox.exec(["sleep", "1000"], { timeoutMs: 1000 });
      assert.equal(await slow.wait(), 137);
      await printed(sandbox, "sh", "-c", "until [ $(pgrep -c sleep) = 1 ]; do :; done");
    });

    test(`${backend}: a megabyte through exec both ways`, async () => {
      const sandbox = await modal.create(kind);
      const process = await sandbox.exec(["cat"], { mode: "binary" });
      const sent = new Uint8Array(1_000_000).map((_, index) => index % 251);
      const received = process.stdout.readBytes();
      await process.stdin.writeBytes(sent);
      await process.stdin.close();
      assert.deepEqual(Buffer.from(await received), Buffer.from(sent));
      assert.equal(await process.wait(), 0);
    });

    test(`${backend}: it sees nothing of the host`, async () => {
      const sandbox = await modal.create(kind);
      assert.match((await output(sandbox, "ls", import.meta.dirname)).stderr, /No such file/);
      assert.equal(
        await printed(sandbox, "ls", "-A", "/home", "/root", "/tmp", "/mnt"),
        "/home:\n\n/mnt:\n\n/root:\n\n/tmp:\n",
      );
      const processes = await printed(sandbox, "sh", "-c", "cat /proc/[0-9]*/comm | sort -u");
      assert.deepEqual(
        processes.split("\n").filter((name) => !["bwrap", "cat", "sh", "sleep", "sort", ""].includes(name)),
        [],
      );
      const environment = await printed(sandbox, "sh", "-c", "cat /proc/*/environ");
      assert.ok(!environment.includes("MODAL_TOKEN"), environment);
      await printed(sandbox, "sh", "-c", "echo mine > /usr/bin/mine; touch /here");
      const other = await modal.create(kind);
      assert.equal((await output(other, "ls", "/usr/bin/mine", "/here")).code, 2);
    });
  }

  async function listed(tags: Record<string, string>): Promise<string[]> {
    const ids: string[] = [];
    for await (const sandbox of modal.client.sandboxes.list({ appId: modal.app.appId, tags }))
      ids.push(sandbox.sandboxId);
    return ids;
  }
});
