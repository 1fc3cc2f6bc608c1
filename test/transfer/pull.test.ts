/** What a pull brings, and what it leaves, from real sandboxes. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { UsageError } from "../../src/errors.ts";
import type { Sandbox } from "../../src/sandbox/provider.ts";
import { type PullOptions, pull } from "../../src/transfer/pull.ts";
import type { Progress, TransferReport } from "../../src/transfer/report.ts";
import { shellInside } from "../helpers/run-inside.ts";
import { openScene, type Scene } from "./scene.ts";

let scene: Scene;
let sandbox: Sandbox;
let count = 0;
before(async () => {
  scene = await openScene();
  sandbox = await scene.sandbox();
});
after(() => scene[Symbol.asyncDispose]());

/** a path that is not there */
const fresh = () => join(scene.folder, `target-${count++}`);

async function inside(script: string): Promise<void> {
  const { code, stderr } = await shellInside(sandbox, `set -e; ${script}`);
  assert.equal(code, 0, stderr);
}

const bring = (from: string, to: string, options: Partial<PullOptions> = {}): Promise<TransferReport> =>
  pull({ sandbox, from, to, ...options });

/** entries with their mode bits, in the order of names */
function tree(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => `${name} ${(lstatSync(join(folder, name)).mode & 0o7777).toString(8)}`)
    .sort();
}

test("a folder comes with what is in it, with the user's rights only, and nothing of an unfinished transfer", async () => {
  await inside(`mkdir -p /tmp/a/sub/deep /tmp/a/empty; cd /tmp/a; echo one > one; echo two > sub/deep/two; : > nothing
    printf '#!/bin/sh\\n' > run; chmod 6755 run; chmod 444 one; chmod 1777 empty`);
  const to = fresh();
  const report = await bring("/tmp/a", to);
  assert.deepEqual(tree(to), [
    "empty 700",
    "nothing 600",
    "one 600",
    "run 700",
    "sub 700",
    "sub/deep 700",
    "sub/deep/two 600",
  ]);
  assert.equal(readFileSync(join(to, "sub/deep/two"), "utf8"), "two\n");
  assert.equal(readFileSync(join(to, "nothing"), "utf8"), "");
  assert.equal(report.files, 4);
  assert.equal(report.bytes, 4 + 4 + 10);
});

test("targets are understood as by cp -r", async () => {
  await inside("mkdir -p /tmp/b; echo x > /tmp/b/file");
  const there = fresh();
  mkdirSync(there);
  await bring("/tmp/b", there);
  await bring("/tmp/b/", join(there, "content"));
  await bring("/tmp/b/", there);
  await bring("/tmp/b/file", join(there, "renamed"));
  await bring("/tmp/b/file", join(there, "new/folders/"));
  await bring("/tmp/b/.", join(there, "dot"));
  assert.deepEqual(
    tree(there).map((line) => line.split(" ")[0]),
    [
      "b",
      "b/file",
      "content",
      "content/file",
      "dot",
      "dot/file",
      "file",
      "new",
      "new/folders",
      "new/folders/file",
      "renamed",
    ],
  );
  await assert.rejects(bring("/tmp/b", join(there, "file")), (error) => error instanceof UsageError);
});

test("what is not there, or no file, is said", async () => {
  await inside("mkfifo /tmp/pipe-itself");
  await assert.rejects(bring("/tmp/none", fresh()), {
    name: "UsageError",
    message: 'There is no "/tmp/none" in the sandbox',
  });
  await assert.rejects(bring("/tmp/pipe-itself", fresh()), { name: "UsageError", message: /cannot be read: a pipe/ });
  await assert.rejects(bring("/dev/null", fresh()), { name: "UsageError", message: /cannot be read: a device/ });
  const file = fresh();
  writeFileSync(file, "");
  await assert.rejects(bring("/tmp", join(file, "below")), { name: "UsageError", message: /cannot be written/ });
});

test("links, pipes, sockets and devices are skipped and named; hard links are files", async () => {
  await inside(`mkdir /tmp/c; cd /tmp/c; ln -s /etc/passwd link; ln -s . loop; ln -s ../../../etc up; mkfifo pipe
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'; echo same > first; ln first second`);
  const to = fresh();
  const report = await bring("/tmp/c", to);
  assert.deepEqual(tree(to), ["first 600", "second 600"]);
  assert.equal(statSync(join(to, "first")).nlink, 1);
  assert.deepEqual(report.skipped.first.sort(), [
    "link: a link",
    "loop: a link",
    "pipe: a pipe",
    "socket: a socket",
    "up: a link",
  ]);
  const devices = await bring("/dev", fresh());
  assert(devices.skipped.first.includes("null: a device"));
});

test("a link that the user names is followed, inside", async () => {
  await inside("mkdir /tmp/d; echo x > /tmp/d/file; ln -s d /tmp/latest");
  const to = fresh();
  await bring("/tmp/latest", to);
  assert.deepEqual(tree(to), ["file 600"]);
});

test("names of any bytes arrive as they are, and are shown clean", async () => {
  const name = "new\nline \x1b[31mred\x1b[0m \x80\xff\t'\"\\ $(id) -rf";
  await inside(`mkdir /tmp/e; cd /tmp/e; python3 -c '
import os, sys
name = bytes.fromhex("${Buffer.from(name, "latin1").toString("hex")}")
open(name, "w").write("x"); os.mkfifo(name + b"p"); os.mkdir(b"\\xff"); open(b"\\xff/" + b"\\xfe" * 255, "w"); open("…", "w")'`);
  const to = fresh();
  const report = await bring("/tmp/e", to);
  const found = readdirSync(to, { encoding: "latin1" }).sort();
  assert.deepEqual(found, [name, Buffer.from("…").toString("latin1"), "\xff"].sort());
  const shown = report.skipped.first.join("");
  assert.match(shown, /^new\?line red /);
  assert.doesNotMatch(shown, /\p{Cc}/u);
});

test("what may not be read is named, and the rest comes", async (context) => {
  if ((await shellInside(sandbox, "id -u")).stdout === "0\n")
    return context.skip("the sandbox's user may read everything");
  await inside("mkdir -p /tmp/f/closed; cd /tmp/f; echo x > closed/x; echo y > y; echo z > z; chmod 0 closed y");
  const to = fresh();
  const report = await bring("/tmp/f", to);
  assert.deepEqual(tree(to), [".modal-sb-partial-transfer 600", "z 600"]);
  assert.deepEqual(report.failed.first.sort(), ["closed: permission denied", "y: permission denied"]);
  await inside("chmod 755 /tmp/f/closed; chmod 644 /tmp/f/y");
  // the same command goes on in the folder that it made
  await bring("/tmp/f", to);
  assert.deepEqual(tree(to), ["closed 700", "closed/x 600", "y 600", "z 600"]);
});

test("files that are there stay unless they are the same, or it is forced", async () => {
  await inside("mkdir /tmp/g; cd /tmp/g; printf same > same; printf new1 > length; printf new > other; mkdir folder");
  const to = fresh();
  mkdirSync(to);
  for (const [name, text] of [
    ["same", "same"],
    ["length", "old1"],
    ["other", "longer"],
    ["folder", "a file"],
  ] as const) {
    writeFileSync(join(to, name), text, { mode: 0o640 });
  }
  const report = await bring("/tmp/g/", to);
  assert.deepEqual(report.existing.first.sort(), ["length", "other"]);
  assert.deepEqual(report.failed.first, ["folder: a part of its path is no folder"]);
  assert.deepEqual([report.same, report.files], [1, 0]);
  assert.equal(readFileSync(join(to, "other"), "utf8"), "longer");
  const forced = await bring("/tmp/g/", to, { overwrite: true });
  assert.deepEqual([forced.same, forced.files, forced.existing.count], [1, 2, 0]);
  assert.equal(readFileSync(join(to, "length"), "utf8"), "new1");
  assert.equal(readFileSync(join(to, "other"), "utf8"), "new");
  assert.equal(readFileSync(join(to, "folder"), "utf8"), "a file");
});

test("a sparse file of a terabyte is refused before it is begun", async () => {
  await inside("mkdir /tmp/h; truncate -s 1T /tmp/h/sparse");
  const to = fresh();
  await assert.rejects(bring("/tmp/h", to), {
    name: "UsageError",
    message: /no space for it here: 1099511627776 bytes are needed/,
  });
  await assert.rejects(bring("/tmp/h", to, { maxBytes: 1000 }), {
    name: "UsageError",
    message: /more than 1000 bytes/,
  });
});

test("a full disk is said, what was complete stays, and nothing else has a name", async (context) => {
  const to = fresh();
  mkdirSync(to);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "none", to], { stdio: "pipe" });
  } catch {
    return context.skip("mounting a small disk needs root");
  }
  try {
    await inside("mkdir /tmp/i; cd /tmp/i; for i in 1 2 3 4 5; do head -c 700000 /dev/urandom > $i; done");
    await assert.rejects(bring("/tmp/i/", to), {
      name: "UsageError",
      message: /no space for it here: no space is left/,
    });
    const complete = readdirSync(to).filter((name) => !name.startsWith("."));
    assert(complete.length >= 1 && complete.length <= 2, complete.join());
    for (const name of complete) assert.equal(statSync(join(to, name)).size, 700_000);
  } finally {
    execFileSync("umount", [to]);
  }
});

test("a file that is written to while it is read comes as far as it was, and is named", async () => {
  await inside("mkdir /tmp/j; head -c 60M /dev/zero > /tmp/j/log");
  const writer = await sandbox.exec(["sh", "-c", "while :; do echo line >> /tmp/j/log; done"]);
  const to = fresh();
  const report = await bring("/tmp/j", to);
  writer.kill("SIGKILL");
  assert.deepEqual([report.files, report.changed.first], [1, ["log"]]);
  const { size } = statSync(join(to, "log"));
  assert(size >= 60 * 2 ** 20);
  const head = await shellInside(sandbox, `head -c ${size} /tmp/j/log | sha256sum`);
  assert.equal(execFileSync("sh", ["-c", `sha256sum < "${join(to, "log")}"`], { encoding: "utf8" }), head.stdout);
});

test("a file that shrinks while it is read is not put in place", async () => {
  await inside("mkdir /tmp/k; head -c 60M /dev/zero > /tmp/k/log");
  const to = fresh();
  let truncated: Promise<unknown> | undefined;
  const report = await bring("/tmp/k", to, {
    onProgress: ({ bytes }) => {
      // the host does not go on while this blocks, and no pipe holds 60 MiB
      if (bytes > 0 && !truncated) truncated = inside("truncate -s 5 /tmp/k/log");
    },
    sandbox: slowSandbox(sandbox, () => truncated),
  });
  assert.deepEqual(report.failed.first, ["log: it was written to meanwhile"]);
  assert.deepEqual(tree(to), [".modal-sb-partial-transfer 600"]);
});

test("a file that is gone before its turn is no failure", async () => {
  await inside("mkdir /tmp/p; cd /tmp/p; for i in $(seq 20); do head -c 5M /dev/zero > $i; done");
  let removed: Promise<unknown> | undefined;
  const report = await bring("/tmp/p", fresh(), {
    onProgress: () => {
      removed ??= inside("rm -r /tmp/p");
    },
    sandbox: slowSandbox(sandbox, () => removed),
  });
  assert.equal(report.failed.count, 0);
  assert(report.skipped.count > 10, `${report.skipped.count}`);
  assert.match(report.skipped.first[0] ?? "", /: it was gone before its turn$/);
});

test("progress counts all bytes, and knows the end ahead", async () => {
  await inside("mkdir -p /tmp/l/sub; cd /tmp/l; head -c 3M /dev/zero > three; head -c 1M /dev/zero > sub/one");
  const seen: Progress[] = [];
  await bring("/tmp/l", fresh(), { onProgress: (progress) => seen.push(progress) });
  assert.deepEqual(seen.at(-1)?.total, { files: 2, bytes: 4 * 2 ** 20 });
  assert.deepEqual([seen.at(-1)?.bytes, seen.at(-1)?.files], [4 * 2 ** 20, 2]);
  assert(seen.every(({ bytes }, index) => bytes >= (seen[index - 1]?.bytes ?? 0)));
});

test("ten thousand small files", async () => {
  await inside(
    "mkdir /tmp/m; cd /tmp/m; for i in $(seq 100); do mkdir $i; for j in $(seq 100); do echo $i-$j > $i/$j; done; done",
  );
  const to = fresh();
  const report = await bring("/tmp/m", to);
  assert.deepEqual([report.files, report.folders, report.failed.count], [10_000, 101, 0]);
  assert.equal(readFileSync(join(to, "37/73"), "utf8"), "37-73\n");
  const again = await bring("/tmp/m/", to);
  assert.deepEqual([again.files, again.same], [0, 10_000]);
});

test("folders in each other are followed to a depth, and no further", async () => {
  await inside(`cd /tmp; python3 -c '
import os
os.mkdir("n"); os.chdir("n")
for level in range(300): os.mkdir("d"); os.chdir("d")
open("bottom", "w")'`);
  const report = await bring("/tmp/n", fresh());
  assert.equal(report.failed.count, 1);
  assert.match(report.failed.first[0] ?? "", /too many folders in each other$/);
});

test("an aborted pull throws the reason", async () => {
  await inside("head -c 100M /dev/zero > /tmp/o");
  const stop = new AbortController();
  const reason = new Error("enough");
  const to = fresh();
  const onProgress = () => stop.abort(reason);
  await assert.rejects(bring("/tmp/o", to, { signal: stop.signal, onProgress }), reason);
  await assert.rejects(bring("/tmp/o", to, { signal: stop.signal }), reason);
  assert(!existsSync(to));
});

/** A sandbox whose output is given on only when `wait` has resolved. */
function slowSandbox(real: Sandbox, wait: () => Promise<unknown> | undefined): Sandbox {
  return {
    ...real,
    exec: async (...words) => {
      const process = await real.exec(...words);
      const waiting = async function* () {
        for await (const chunk of process.stdout as AsyncIterable<Buffer>) {
          await wait();
          yield chunk;
        }
      };
      const stdout = Readable.from(waiting(), { objectMode: false });
      return { ...process, stdout };
    },
  };
}
