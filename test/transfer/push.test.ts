/** What a push brings into real sandboxes, and what it refuses to. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CredentialVisibleError, UsageError } from "../../src/errors.ts";
import type { Sandbox } from "../../src/sandbox/provider.ts";
import { Secret } from "../../src/secret.ts";
import { type PushOptions, push } from "../../src/transfer/push.ts";
import type { TransferReport } from "../../src/transfer/report.ts";
import { shellInside } from "../helpers/run-inside.ts";
import { testLimits } from "../helpers/sandbox-spec.ts";
import { openScene, type Scene } from "./scene.ts";

const key = "sk-test-0123456789-abcdefghij";

let scene: Scene;
let sandbox: Sandbox;
let count = 0;
before(async () => {
  scene = await openScene();
  sandbox = await scene.sandbox();
});
after(() => scene[Symbol.asyncDispose]());

const bring = (from: string, to: string, options: Partial<PushOptions> = {}): Promise<TransferReport> =>
  push({ sandbox, from, to, credentials: new Map([["TEST_KEY", new Secret(key)]]), ...options });

/** A new folder of this machine with these files. */
function folder(files: Readonly<Record<string, string | Buffer>>): string {
  const path = join(scene.folder, `source-${count++}`);
  mkdirSync(path);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(path, name, ".."), { recursive: true });
    writeFileSync(join(path, name), content);
  }
  return path;
}

async function inside(script: string): Promise<string> {
  const { code, stdout, stderr } = await shellInside(sandbox, `set -e; ${script}`);
  assert.equal(code, 0, stderr);
  return stdout;
}

test("a folder arrives as it is, with its rights but not those of a program that changes users", async () => {
  const from = folder({ one: "1", "sub/deep/two": "2", run: "#!/bin/sh\necho ran", [`\x01 \n${"n".repeat(240)}`]: "" });
  mkdirSync(join(from, "empty"));
  chmodSync(join(from, "run"), 0o6755);
  chmodSync(join(from, "one"), 0o444);
  const report = await bring(from, "/tmp/a");
  assert.deepEqual([report.files, report.failed.count], [4, 0]);
  assert.equal(
    await inside("cd /tmp/a; find . -type f -not -name '*nn*' -printf '%P %m\\n' | sort"),
    "one 644\nrun 755\nsub/deep/two 644\n",
  );
  assert.equal(await inside("cd /tmp/a; ls -Ab | wc -l; ./run; cat sub/deep/two"), "5\nran\n2");
});

test("targets are understood as by cp -r, and folders above are made", async () => {
  const from = folder({ file: "x" });
  await inside("mkdir /tmp/b; cd /tmp/b; mkdir there");
  await bring(from, "/tmp/b/there");
  await bring(`${from}/`, "/tmp/b/there");
  await bring(from, "/tmp/b/made/new");
  await bring(join(from, "file"), "/tmp/b/renamed");
  await bring(join(from, "file"), "/tmp/b/folder/");
  await bring(join(from, "file"), "relative-to-the-working-directory");
  const name = from.split("/").at(-1);
  assert.equal(
    await inside("cd /tmp/b; find . -type f -printf '%P\\n' | sort; cat ../relative-to*"),
    `folder/file\nmade/new/file\nrenamed\nthere/file\nthere/${name}/file\nx`,
  );
});

test("what cannot be written is said", async (context) => {
  const from = folder({ file: "x" });
  await assert.rejects(bring("/no/such/file", "/tmp"), {
    name: "UsageError",
    message: 'There is no "/no/such/file" here',
  });
  await assert.rejects(
    bring(from, "/usr/new"),
    (error) => error instanceof UsageError && /"\/usr\/new" in the sandbox cannot be written/.test(error.message),
  );
  if ((await inside("id -u")) === "0\n") return context.skip("the sandbox's user may write everywhere");
  await inside("mkdir -p /tmp/c/closed; chmod 555 /tmp/c/closed");
  const report = await bring(`${from}/`, "/tmp/c/closed");
  assert.deepEqual(report.failed.first, ["file: permission denied"]);
});

test("the limit on a file's size is this file's own failure", async () => {
  await using small = await scene.sandbox({ limits: { ...testLimits, fileSizeMiB: 2 } });
  const from = folder({ large: Buffer.alloc(3 * 2 ** 20), small: "x" });
  const report = await bring(from, "/tmp/x", { sandbox: small });
  assert.deepEqual([report.files, report.failed.first], [1, ["large: larger than files may be there"]]);
});

test("links are not followed, out of the folder or in it", async () => {
  const outside = folder({ secret: "mine" });
  const from = folder({ file: "x" });
  symlinkSync(outside, join(from, "folder"));
  symlinkSync(join(outside, "secret"), join(from, "link"));
  symlinkSync("file", join(from, "inner"));
  linkSync(join(from, "file"), join(from, "hard"));
  execFileSync("mkfifo", [join(from, "pipe")]);
  const report = await bring(from, "/tmp/d");
  assert.deepEqual(report.skipped.first.sort(), ["folder: a link", "inner: a link", "link: a link", "pipe: a pipe"]);
  assert.equal(await inside("cd /tmp/d; ls -A"), "file\nhard\n");
});

test("a link that takes a folder's place during the push leads nowhere", async () => {
  const outside = folder({ secret: "mine" });
  const from = folder({ "sub/secret": "harmless" });
  const credentials = new Map<string, Secret>();
  const swap = () => {
    renameSync(join(from, "sub"), join(scene.folder, `away-${count++}`));
    symlinkSync(outside, join(from, "sub"));
  };
  const swapping: Sandbox = {
    ...sandbox,
    exec: async (...words) => {
      const process = await sandbox.exec(...words);
      // the search is over, nothing has been announced
      swap();
      return process;
    },
  };
  const report = await push({ sandbox: swapping, from, to: "/tmp/swapped", credentials });
  assert.deepEqual([report.files, report.skipped.first], [0, ["sub: a link"]]);
});

test("files that are there stay unless they are the same, or it is forced", async () => {
  const from = folder({ same: "same", other: "new" });
  await inside("mkdir /tmp/e; cd /tmp/e; printf same > same; printf old > other");
  const report = await bring(`${from}/`, "/tmp/e");
  assert.deepEqual([report.same, report.files, report.existing.first], [1, 0, ["other"]]);
  const forced = await bring(`${from}/`, "/tmp/e", { overwrite: true });
  assert.deepEqual([forced.same, forced.files], [1, 1]);
  assert.equal(await inside("cat /tmp/e/other"), "new");
});

for (const [form, text] of [
  ["as it is", key],
  ["in base64", Buffer.from(`x ${key} y`).toString("base64")],
  ["in hex", Buffer.from(key).toString("hex")],
] as const) {
  test(`a file with a credential ${form} is refused, and nothing was sent`, async () => {
    // it stands over the border of two blocks of the search
    const from = folder({
      first: "harmless",
      "sub/large": Buffer.concat([Buffer.alloc(2 ** 20 - 9), Buffer.from(text), Buffer.alloc(5000)]),
    });
    await assert.rejects(bring(from, "/tmp/f"), (error) => {
      assert(error instanceof CredentialVisibleError);
      assert.equal(error.message, 'The credential TEST_KEY is in "sub/large", which was to be pushed');
      return !`${error.stack}`.includes(key);
    });
    assert.equal(await inside("ls /tmp/f 2>&1 || true"), "ls: cannot access '/tmp/f': No such file or directory\n");
  });
}

test("a credential as a file's name is refused, and not repeated", async () => {
  const from = folder({ [`x${key}`]: "" });
  await assert.rejects(bring(from, "/tmp/g"), (error) => {
    return error instanceof CredentialVisibleError && !error.message.includes(key);
  });
});

test("a credential that is written into a file after the search is found on its way", async () => {
  const from = folder({ late: "harmless" });
  const late: Sandbox = {
    ...sandbox,
    exec: async (...words) => {
      writeFileSync(join(from, "late"), key);
      return await sandbox.exec(...words);
    },
  };
  await assert.rejects(bring(from, "/tmp/h", { sandbox: late }), { name: "CredentialVisibleError" });
  assert.equal(await inside(`grep -rl ${key.slice(0, 12)} /tmp/h || true`), "");
});

test("ten thousand small files", async () => {
  const files = Object.fromEntries(
    Array.from({ length: 10_000 }, (_, index) => [`${index % 100}/${index}`, `${index}\n`]),
  );
  const report = await bring(folder(files), "/tmp/i");
  assert.deepEqual([report.files, report.folders, report.failed.count], [10_000, 101, 0]);
  assert.equal(await inside("cd /tmp/i; find . -type f | wc -l; cat 37/1237; find . -name '.modal*'"), "10000\n1237\n");
});
