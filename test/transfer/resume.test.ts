/** Transfers that are cut off go on where they were, and only after what they prove to be the same. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { SandboxError } from "../../src/errors.ts";
import { pull } from "../../src/transfer/pull.ts";
import { push } from "../../src/transfer/push.ts";
import type { TransferReport } from "../../src/transfer/report.ts";
import { runInside, shellInside } from "../helpers/run-inside.ts";
import { openScene, type Scene } from "./scene.ts";

const mainPath = fileURLToPath(new URL("transfer-main.ts", import.meta.url));
const sizeMiB = 96;

let scene: Scene;
before(async () => {
  scene = await openScene();
});
after(() => scene[Symbol.asyncDispose]());

const hashOf = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");
const partialsIn = (folder: string) => readdirSync(folder).filter((name) => name.startsWith(".modal-sb-partial-"));

/** Runs a transfer in a process of its own; with `killAt`, kills it when so many bytes have gone. */
async function transfer(argv: string[], killAt?: number): Promise<TransferReport | undefined> {
  const child = spawn(process.execPath, [mainPath, ...argv], { stdio: ["ignore", "pipe", "inherit"] });
  let report: TransferReport | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith("{")) report = JSON.parse(line) as TransferReport;
    else if (killAt !== undefined && Number(line) > killAt) child.kill("SIGKILL");
  }
  return report;
}

test("a pull whose process was killed with kill -9 goes on within the file, and by file", async () => {
  const source = await folderOfVolume("pulled");
  mkdirSync(source);
  for (const name of ["a", "b"]) writeFileSync(join(source, name), randomBytes(sizeMiB * 2 ** 20));
  const to = join(scene.folder, "killed-pull");
  const argv = ["pull", "/data/runs", to, "pulled", scene.stateFolder];
  const killAt = 1.5 * sizeMiB * 2 ** 20;
  assert.equal(await transfer(argv, killAt), undefined);
  const complete = readdirSync(to).filter((name) => ["a", "b"].includes(name));
  assert.equal(complete.length, 1);
  assert.equal(partialsIn(to).length, 2);
  const report = await transfer(argv);
  assert.deepEqual([report?.files, report?.same, report?.resumed], [1, 1, 1]);
  assert((report?.bytes ?? 0) < 0.9 * sizeMiB * 2 ** 20, `${report?.bytes}`);
  assert.deepEqual(readdirSync(to).sort(), ["a", "b"]);
  for (const name of ["a", "b"]) assert.equal(hashOf(join(to, name)), hashOf(join(source, name)));
});

test("a push whose process was killed with kill -9 goes on within the file, and by file", async () => {
  const from = join(scene.folder, "killed-push");
  mkdirSync(from);
  for (const name of ["a", "b"]) writeFileSync(join(from, name), randomBytes(sizeMiB * 2 ** 20));
  const to = await folderOfVolume("pushed");
  const argv = ["push", from, "/data/runs", "pushed", scene.stateFolder];
  assert.equal(await transfer(argv, 1.5 * sizeMiB * 2 ** 20), undefined);
  assert.equal(readdirSync(to).filter((name) => ["a", "b"].includes(name)).length, 1);
  const report = await transfer(argv);
  assert.deepEqual([report?.files, report?.same, report?.resumed], [1, 1, 1]);
  assert((report?.bytes ?? 0) < 0.9 * sizeMiB * 2 ** 20, `${report?.bytes}`);
  assert.deepEqual(readdirSync(to).sort(), ["a", "b"]);
  for (const name of ["a", "b"]) assert.equal(hashOf(join(to, name)), hashOf(join(from, name)));
});

/** The folder of this machine that is /data/runs in sandboxes with that volume. */
async function folderOfVolume(name: string): Promise<string> {
  await using volume = await scene.provider.volume(name);
  assert(volume.hostPath);
  return join(volume.hostPath, "runs");
}

/** A pull of 100 MB that is aborted near its half. */
async function abortedPull(name: string) {
  const sandbox = await scene.sandbox();
  await shellInside(sandbox, "head -c 100M /dev/urandom > /tmp/file");
  const to = join(scene.folder, name);
  mkdirSync(to);
  const stop = new AbortController();
  const onProgress = ({ bytes }: { bytes: number }) => bytes > 50 * 2 ** 20 && stop.abort(new Error("enough"));
  await assert.rejects(pull({ sandbox, from: "/tmp/file", to, signal: stop.signal, onProgress }), {
    message: "enough",
  });
  const [partial = ""] = partialsIn(to);
  const { stdout } = await runInside(sandbox, ["sha256sum", "/tmp/file"]);
  return { sandbox, to, partial: join(to, partial), hash: stdout.split(" ")[0] };
}

test("an aborted pull leaves what came, for the next", async () => {
  const { sandbox, to, partial, hash } = await abortedPull("aborted");
  await using _ = sandbox;
  assert(statSync(partial).size >= 50 * 2 ** 20);
  assert.equal(statSync(partial).mode & 0o777, 0o600);
  const report = await pull({ sandbox, from: "/tmp/file", to });
  assert.deepEqual([report.resumed, readdirSync(to)], [1, ["file"]]);
  assert(report.bytes <= 50 * 2 ** 20);
  assert.equal(hashOf(join(to, "file")), hash);
});

test("a beginning that has changed, here or in the sandbox, is not kept", async () => {
  for (const side of ["here", "inside"]) {
    const { sandbox, to, partial } = await abortedPull(`changed-${side}`);
    await using _ = sandbox;
    if (side === "here") {
      const file = openSync(partial, "r+");
      writeSync(file, "X", 1000);
      closeSync(file);
    } else await shellInside(sandbox, "printf X | dd of=/tmp/file bs=1 seek=1000 conv=notrunc");
    const report = await pull({ sandbox, from: "/tmp/file", to });
    assert.deepEqual([report.resumed, report.bytes], [0, 100 * 2 ** 20]);
    const { stdout } = await runInside(sandbox, ["sha256sum", "/tmp/file"]);
    assert.equal(hashOf(join(to, "file")), stdout.split(" ")[0]);
  }
});

test("what was left of a longer file, a link, or a hard link in its place, harms nothing", async () => {
  const { sandbox, to, partial } = await abortedPull("odd");
  await using _ = sandbox;
  const precious = join(scene.folder, "precious");
  writeFileSync(precious, "mine");
  await shellInside(sandbox, "printf short > /tmp/file");
  for (const make of ["longer", "symlink", "hardlink"] as const) {
    if (make === "symlink" || make === "hardlink") {
      rmSync(partial, { force: true });
      (make === "symlink" ? symlinkSync : linkSync)(precious, partial);
    }
    rmSync(join(to, "file"), { force: true });
    await pull({ sandbox, from: "/tmp/file", to });
    assert.equal(readFileSync(join(to, "file"), "utf8"), "short");
    assert.equal(readFileSync(precious, "utf8"), "mine");
  }
});

test("a sandbox's program that is killed in the middle ends the transfer in words, and the next goes on", async () => {
  await using sandbox = await scene.sandbox();
  const kill = () =>
    shellInside(sandbox, "for p in /proc/[0-9]*; do grep -qs inside/mai[n] $p/cmdline && kill -9 $(basename $p); done");
  await shellInside(sandbox, "head -c 100M /dev/urandom > /tmp/file");
  const to = join(scene.folder, "cut");
  let killing: Promise<unknown> | undefined;
  const onProgress = ({ bytes }: { bytes: number }) => {
    if (bytes > 20 * 2 ** 20) killing ??= kill();
  };
  const cut = pull({ sandbox: paused(() => killing), from: "/tmp/file", to, onProgress });
  await assert.rejects(
    cut,
    (error) => error instanceof SandboxError && /ended/.test(error.message) && /goes on/.test(error.hint ?? ""),
  );
  const report = await pull({ sandbox, from: "/tmp/file", to });
  assert.equal(report.resumed, 1);
  killing = undefined;
  const pushed = push({
    sandbox: paused(() => killing),
    from: to,
    to: "/tmp/back",
    onProgress,
    credentials: new Map(),
  });
  await assert.rejects(pushed, SandboxError);
  const again = await push({ sandbox, from: to, to: "/tmp/back", credentials: new Map() });
  assert.equal(again.resumed, 1);
  assert.equal((await runInside(sandbox, ["cmp", "/tmp/file", "/tmp/back"])).code, 0);

  /** so that a fast machine is not done before the program is killed */
  function paused(until: () => Promise<unknown> | undefined): typeof sandbox {
    return new Proxy(sandbox, {
      get: (target, name) => {
        if (name !== "exec") return Reflect.get(target, name);
        return async (...words: Parameters<typeof sandbox.exec>) => {
          const process = await sandbox.exec(...words);
          const write = process.stdin.write.bind(process.stdin) as (...words: unknown[]) => boolean;
          process.stdin.write = ((...words: unknown[]) => {
            void Promise.resolve(until()).then(() => write(...words));
            return true;
          }) as typeof process.stdin.write;
          const { stdout } = process;
          const iterator = stdout[Symbol.asyncIterator].bind(stdout);
          stdout[Symbol.asyncIterator] = async function* () {
            for await (const chunk of { [Symbol.asyncIterator]: iterator }) {
              yield chunk as Buffer;
              await until();
            }
          } as typeof iterator;
          return process;
        };
      },
    });
  }
});
