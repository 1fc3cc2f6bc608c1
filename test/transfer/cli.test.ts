/** What the commands say and how they end. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { WriteStream } from "node:tty";
import { fileURLToPath } from "node:url";
import type { Output } from "../../src/cli/output.ts";
import { pullFiles, pushFiles } from "../../src/cli/transfer.ts";
import { ProgressLine, progressWords, sizeWords } from "../../src/cli/transfer-progress.ts";
import { exitCodes } from "../../src/errors.ts";
import type { Sandbox } from "../../src/sandbox/provider.ts";
import { Secret } from "../../src/secret.ts";
import { shellInside } from "../helpers/run-inside.ts";
import { openScene, type Scene } from "./scene.ts";

let scene: Scene;
let sandbox: Sandbox;
before(async () => {
  scene = await openScene();
  sandbox = await scene.sandbox();
});
after(() => scene[Symbol.asyncDispose]());

const never = new AbortController().signal;

/** Notes as lines; the time that a transfer took is left out. */
function recorder(): Output & { lines: string[] } {
  const lines: string[] = [];
  const plain = (words: string) => words;
  const note = (words: string) => void lines.push(words.replace(/ in [\d.]+ s.*?(?=;|$)/, ""));
  return {
    lines,
    data: () => assert.fail("no data is written"),
    note,
    dim: plain,
    red: plain,
    bold: plain,
    isTerminal: false,
  };
}

test("a pull sums up, names what it left, and says how to replace it", async () => {
  await shellInside(
    sandbox,
    "mkdir /tmp/a; cd /tmp/a; echo new > there; echo x > other; ln -s x link; mkfifo $(seq -f pipe%g 12)",
  );
  const to = join(scene.folder, "a");
  mkdirSync(to);
  writeFileSync(join(to, "there"), "old");
  const output = recorder();
  const request = { session: "s", from: "/tmp/a/", to, force: false };
  assert.equal(await pullFiles(request, sandbox, output, never), exitCodes.usage);
  assert.equal(output.lines.filter((line) => line.startsWith("skipped: ")).length, 11);
  assert.deepEqual(output.lines.slice(-4), [
    "skipped: 3 more",
    "left as it is, with other content: there",
    "1 file, 2 B; 13 skipped; 1 left as they are",
    "hint: --force replaces files that are there with other content",
  ]);
  const forced = recorder();
  assert.equal(await pullFiles({ ...request, force: true }, sandbox, forced, never), exitCodes.success);
  assert.equal(forced.lines.at(-1), "1 file, 4 B; 1 there already; 13 skipped");
});

test("files that cannot be read make it fail, and are named", async (context) => {
  if ((await shellInside(sandbox, "id -u")).stdout === "0\n")
    return context.skip("the sandbox's user may read everything");
  await shellInside(sandbox, "mkdir /tmp/b; cd /tmp/b; echo x > closed; chmod 0 closed");
  const output = recorder();
  const request = { session: "s", from: "/tmp/b", to: join(scene.folder, "b"), force: false };
  assert.equal(await pullFiles(request, sandbox, output, never), exitCodes.sandbox);
  assert.deepEqual(output.lines, ["failed: closed: permission denied", "0 files, 0 B; 1 failed"]);
});

test("a push sums up, and refuses a credential", async () => {
  const from = join(scene.folder, "c");
  mkdirSync(from);
  writeFileSync(join(from, "file"), "x");
  const output = recorder();
  const credentials = new Map([["KEY", new Secret("sk-0123456789")]]);
  const request = { session: "s", from, to: "/tmp/c", force: false };
  assert.equal(await pushFiles(request, sandbox, credentials, output, never), exitCodes.success);
  assert.deepEqual(output.lines, ["1 file, 1 B"]);
  writeFileSync(join(from, "key"), "sk-0123456789");
  await assert.rejects(pushFiles(request, sandbox, credentials, output, never), {
    exitCode: exitCodes.credentialVisible,
  });
});

test("Ctrl-C leaves what came, says how to go on, and ends with 130", async () => {
  const to = join(scene.folder, "d");
  mkdirSync(to);
  const main = fileURLToPath(new URL("cli-main.ts", import.meta.url));
  const child = spawn(process.execPath, [main, to, join(scene.folder, "d-state")], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stderr = text(child.stderr);
  const came = () => readdirSync(to).map((name) => statSync(join(to, name)).size)[0] ?? 0;
  while (came() < 2 ** 20 && child.exitCode === null) await delay(10);
  child.kill("SIGINT");
  const [code] = await once(child, "exit");
  assert.equal(await stderr, "interrupted; the same command goes on where it was\n");
  assert.equal(code, exitCodes.interrupted);
  assert(came() >= 2 ** 20);
});

test("a terminal sees a line that fits and goes away, a pipe none", () => {
  const progress = { bytes: 3 * 2 ** 20, files: 2, total: { bytes: 4 * 2 ** 20, files: 5 }, path: "sub/file" };
  assert.equal(progressWords(progress, 2), "75 %  3.0 MiB of 4.0 MiB  2 of 5 files  1.5 MiB/s  sub/file");
  assert.equal(progressWords({ ...progress, total: undefined }, 1), "3.0 MiB  2 files  3.0 MiB/s  sub/file");
  for (const isTTY of [true, false]) {
    let written = "";
    const stream = { isTTY, columns: 20, write: (text: string) => (written += text) } as unknown as WriteStream;
    const line = new ProgressLine(stream);
    line.show(progress);
    line.show(progress);
    line.clear();
    assert.equal(written, isTTY ? "\r\x1b[2K75 %  3.0 MiB of 4.\r\x1b[2K" : "");
  }
});

test("sizes in words", () => {
  const words = [0, 1, 1023, 1024, 1536, 150 * 1024, 2 ** 30, 2 ** 50].map(sizeWords);
  assert.deepEqual(words, ["0 B", "1 B", "1023 B", "1.0 KiB", "1.5 KiB", "150 KiB", "1.0 GiB", "1024 TiB"]);
});
