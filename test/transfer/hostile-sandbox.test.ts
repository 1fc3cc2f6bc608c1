/** A sandbox whose agent has put a program of its own in place of ours. Whatever it says, nothing but the target is written to. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SandboxError, UsageError } from "../../src/errors.ts";
import { Secret } from "../../src/secret.ts";
import { FarSide } from "../../src/transfer/far-side.ts";
import { type PullOptions, pull } from "../../src/transfer/pull.ts";
import { push } from "../../src/transfer/push.ts";
import { runInside, shellInside } from "../helpers/run-inside.ts";
import { sandboxSpec } from "../helpers/sandbox-spec.ts";
import { announceFolder, openScene, type Scene } from "./scene.ts";

let scene: Scene;
let count = 0;
before(async () => {
  scene = await openScene();
});
after(() => scene[Symbol.asyncDispose]());

/** Pulls from a lying sandbox into a new folder; the error, and what is in the folder afterwards. */
async function attack(program: string, options: Partial<PullOptions> = {}) {
  await using sandbox = await scene.lyingSandbox(program);
  const base = join(scene.folder, `attack-${count++}`);
  const to = join(base, "target");
  await mkdir(to, { recursive: true });
  const error = await pull({ sandbox, from: "/tmp/x/", to, ...options }).then(
    (report) => report,
    (thrown: unknown) => thrown,
  );
  return { error, names: names(to), beside: readdirSync(base) };
}

/** entries but those of unfinished transfers */
function names(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
    (name) => !name.includes(".modal-sb-partial-"),
  );
}

function assertBroken(error: unknown, words: RegExp) {
  assert(error instanceof SandboxError, String(error));
  assert.match(error.message, /^The sandbox breaks the rules of a transfer/);
  assert.match(error.message, words);
}

const oneFile = (path: string) => `${announceFolder}
send({ t: "file", id: 1, path: ${JSON.stringify(path)}, mode: 0o644, size: 4 });
for (;;) {
  const { t } = await heard();
  if (t !== "want") continue;
  send({ t: "begin", id: 1, from: 0 });
  sendBytes(Buffer.from("evil"));
  send({ t: "end", id: 1, sha256: sha256("evil"), changed: false });
  send({ t: "done" });
}`;

test("the program that lies is believed when it does not", async () => {
  const { error, names } = await attack(oneFile("good"));
  assert.deepEqual(names, ["good"]);
  assert.equal((error as { files: number }).files, 1);
});

for (const path of [
  "..",
  "../up",
  "/etc/absolute",
  "a/../../up",
  "./here",
  "a//b",
  "a/",
  "nul\0l",
  "x".repeat(256),
  Array(1100).fill("deep").join("/"),
  "beyond latin1 \u0100",
]) {
  test(`a name that leads elsewhere: ${JSON.stringify(path.slice(0, 20))}`, async () => {
    const { error, names, beside } = await attack(oneFile(path));
    assertBroken(error, /a path that leads elsewhere/);
    assert.deepEqual([names, beside], [[], ["target"]]);
  });
}

test("a name of an unfinished transfer's files is not accepted", async () => {
  const program = oneFile(`.modal-sb-partial-transfer`).replace(
    "for (;;)",
    `await heard(); await heard(); send({ t: "done" }); for (;;)`,
  );
  const { error } = await attack(program);
  assert.deepEqual((error as { failed: { first: string[] } }).failed.first, [
    ".modal-sb-partial-transfer: what an unfinished transfer left",
  ]);
});

const lies: [name: string, words: RegExp, program: string][] = [
  [
    "more bytes than announced",
    /more than was announced/,
    `send({ t: "begin", id: 1, from: 0 }); for (;;) sendBytes(Buffer.alloc(65536));`,
  ],
  ["bytes without a file", /data of no file/, `sendBytes(Buffer.alloc(10));`],
  ["a line without end", /a line without end/, `for (let i = 0; i < 10; i++) process.stdout.write("x".repeat(10000));`],
  ["no JSON", /no JSON/, `process.stdout.write("hello\\n");`],
  ["a JSON that is no message", /no known message/, `process.stdout.write("[1]\\n");`],
  ["an inherited name as a message", /no known message/, `send({ t: "constructor" });`],
  ["a size that is none", /a wrong size/, `send({ t: "file", id: 2, path: "y", mode: 0, size: -1 });`],
  ["a message of the other direction", /an unexpected want/, `send({ t: "want", id: 1, from: 0, sha256: "" });`],
  ["a gigabyte in one frame", /bytes at once/, `send({ t: "data", n: 2 ** 30 });`],
  ["a second root", /a wrong root/, `send({ t: "root", kind: "file" });`],
  ["a number out of turn", /a number out of turn/, `send({ t: "file", id: 7, path: "y", mode: 0, size: 1 });`],
  ["the same path twice", /too much at once/, `send({ t: "file", id: 2, path: "x", mode: 0, size: 8 });`],
  ["an end before all was sent", /an end before all was sent/, `send({ t: "done" });`],
  ["a beginning that was not offered", /a beginning out of turn/, `send({ t: "begin", id: 1, from: 3 });`],
  ["an unknown file", /what was not announced/, `send({ t: "begin", id: 9, from: 0 });`],
  [
    "two files at once",
    /a beginning out of turn/,
    `send({ t: "file", id: 2, path: "y", mode: 0, size: 8 }); await heard(); send({ t: "begin", id: 1, from: 0 }); send({ t: "begin", id: 2, from: 0 });`,
  ],
  [
    "thousands of files that it never sends",
    /too much at once/,
    `for (let id = 2; id < 5000; id++) send({ t: "file", id, path: "f" + id, mode: 0, size: 1 });`,
  ],
  [
    "words for the terminal",
    /a transfer: [ -~]*$/,
    `send({ t: "fault", code: "bell", detail: "\\x1b]0;pwned\\x07\\x1b[31m" });`,
  ],
  ["a fault of the host's", /breaks the rules/, `send({ t: "fault", code: "target", detail: "ENOENT" });`],
];
for (const [name, words, lie] of lies) {
  test(`a lie: ${name}`, async () => {
    const { error, names } = await attack(`${announceFolder}
send({ t: "file", id: 1, path: "x", mode: 0o644, size: 8 });
while ((await heard()).t !== "want");
${lie}
setInterval(() => {}, 1000);`);
    assertBroken(error, words);
    assert.deepEqual(names, []);
  });
}

test("a checksum that is another's, and a file that ends early, are not put in place", async () => {
  for (const bytes of ["evilevil", "evil"]) {
    const { error, names } = await attack(`${announceFolder}
send({ t: "file", id: 1, path: "x", mode: 0o644, size: 8 });
while ((await heard()).t !== "want");
send({ t: "begin", id: 1, from: 0 });
sendBytes(Buffer.from("${bytes}"));
send({ t: "end", id: 1, sha256: sha256("goodgood"), changed: false });
while ((await heard()).t !== "result");
send({ t: "done" });
setInterval(() => {}, 1000);`);
    assert.deepEqual(names, []);
    assert.deepEqual((error as { failed: unknown }).failed, { count: 1, first: ["x: what came is not what was sent"] });
  }
});

test("entries without end", async () => {
  const program = `${announceFolder}
for (let i = 0; ; i++) {
  send({ t: "skipped", path: "p" + i, code: "pipe" });
  // its own memory is not what ends it
  if (i % 1000 === 0) await new Promise((resolve) => process.stdout.writableNeedDrain ? process.stdout.once("drain", resolve) : setImmediate(resolve));
}`;
  const { error } = await attack(program, { maxEntries: 50_000 });
  assert(error instanceof UsageError);
  assert.match(error.message, /more than 50000 files and folders/);
});

test("more bytes than were allowed", async () => {
  const { error, names } = await attack(oneFile("x"), { maxBytes: 3 });
  assert(error instanceof UsageError);
  assert.match(error.message, /more than 3 bytes/);
  assert.deepEqual(names, []);
});

test("a file larger than the disk", async () => {
  const { error } = await attack(`${announceFolder}
send({ t: "file", id: 1, path: "x", mode: 0o644, size: 2 ** 52 });
setInterval(() => {}, 1000);`);
  assert(error instanceof UsageError);
  assert.match(error.message, /There is no space for it here: 4503599627370496 bytes are needed/);
});

test("it does not learn the hash of a file that is there", async () => {
  const secret = "1234";
  await using sandbox = await scene.lyingSandbox(`${announceFolder}
send({ t: "file", id: 1, path: "pin", mode: 0o644, size: 4 });
while ((await heard()).t !== "check");
send({ t: "hashed", id: 1, sha256: sha256("0000") });
while ((await heard()).id !== 1);
send({ t: "done" });
setInterval(() => {}, 1000);`);
  const to = join(scene.folder, "pins");
  await mkdir(to);
  writeFileSync(join(to, "pin"), secret);
  const report = await pull({ sandbox, from: "/tmp/x/", to });
  assert.deepEqual(report.existing, { count: 1, first: ["pin"] });
  const heard = await runInside(sandbox, ["cat", "/tmp/heard"]);
  assert.match(heard.stdout, /"check"/);
  // a result is said in the same words whatever became of the file
  assert.deepEqual(heard.stdout.match(/.*"result".*/g)?.at(-1), '{"t":"result","id":1,"outcome":"put","code":""}');
  assert.doesNotMatch(heard.stdout.replace(/"t":"pull".*/, ""), /[0-9a-f]{64}/);
  assert.equal(readFileSync(join(to, "pin"), "utf8"), secret);
});

test("a link in the target is not followed, whether it leads to a folder or a file", async () => {
  const elsewhere = join(scene.folder, "elsewhere");
  const to = join(scene.folder, "with-links");
  await mkdir(elsewhere);
  await mkdir(to);
  writeFileSync(join(elsewhere, "precious"), "mine");
  symlinkSync(elsewhere, join(to, "folder"));
  symlinkSync(join(elsewhere, "precious"), join(to, "file"));
  symlinkSync(join(elsewhere, "new"), join(to, "dangling"));
  await using sandbox = await scene.sandbox();
  await shellInside(
    sandbox,
    "mkdir -p /tmp/x/folder; cd /tmp/x; for i in folder/precious file dangling; do echo evil > $i; done",
  );
  const report = await pull({ sandbox, from: "/tmp/x/", to });
  assert.deepEqual(report.failed.first.sort(), [
    "folder/precious: a part of its path is no folder",
    "folder: a part of its path is no folder",
  ]);
  assert.deepEqual(report.existing.first.sort(), ["dangling", "file"]);
  const forced = await pull({ sandbox, from: "/tmp/x/", to, overwrite: true });
  assert.equal(forced.files, 2);
  assert.deepEqual(readdirSync(elsewhere), ["precious"]);
  assert.equal(readFileSync(join(elsewhere, "precious"), "utf8"), "mine");
  assert.equal(readFileSync(join(to, "file"), "utf8"), "evil\n");
});

test("a sandbox that falls silent is left", async () => {
  await using sandbox = await scene.lyingSandbox("setInterval(() => {}, 1000);");
  using far = await FarSide.open(sandbox, undefined, 200);
  far.out.post({ t: "pull", from: "/tmp" });
  await assert.rejects(far.frames().next(), { name: "SandboxError", message: "The sandbox said nothing for 0.2 s" });
});

test("a program that is not there, or ends at once, is said with its last words, cleaned", async () => {
  await using bare = await scene.provider.create(sandboxSpec());
  await assert.rejects(pull({ sandbox: bare, from: "/tmp", to: join(scene.folder, "none") }), (error) => {
    assert(error instanceof SandboxError);
    return /program in the sandbox ended with code 1/.test(error.message);
  });
  await using dying = await scene.lyingSandbox(
    `process.stderr.write("\\x1b[31mdied of it\\x1b[0m\\n"); process.exit(3);`,
  );
  await assert.rejects(pull({ sandbox: dying, from: "/tmp", to: join(scene.folder, "none") }), {
    name: "SandboxError",
    message: "The transfer's program in the sandbox ended with code 3: died of it",
  });
  assert(!existsSync(join(scene.folder, "none")));
});

test("on a push it gets each byte once, and its lies about results are refused", async () => {
  const from = join(scene.folder, "pushed");
  await mkdir(from);
  writeFileSync(join(from, "a"), "content");
  const credentials = new Map([["a key", new Secret("sk-not-in-there-1234")]]);
  for (const [lie, words] of [
    [`for (;;) send({ t: "want", id: 1, from: 0, sha256: "" });`, /made before|was not announced|has its result/],
    [`send({ t: "want", id: 5, from: 0, sha256: "" });`, /was not announced/],
    [`send({ t: "want", id: 1, from: 99, sha256: "" });`, /a prefix longer than the file/],
    [`send({ t: "result", id: 1, outcome: "sold", code: "" });`, /no known outcome/],
    [`send({ t: "result", id: 5, outcome: "put", code: "" });`, /was not announced/],
    [`sendBytes(Buffer.alloc(100));`, /data where none belongs/],
  ] as const) {
    await using sandbox = await scene.lyingSandbox(
      `while ((await heard()).t !== "file");\n${lie}\nsetInterval(() => {}, 1000);`,
    );
    const pushing = push({ sandbox, from, to: "/tmp/y", credentials });
    await pushing.then(
      () => assert.fail(lie),
      (error: unknown) => assertBroken(error, words),
    );
  }
});
