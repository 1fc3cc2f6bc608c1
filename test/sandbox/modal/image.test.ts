/** What is in a sandbox's image, and what happens when it cannot be built. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { imagePlan } from "../../../src/sandbox/modal/image-plan.ts";
import type { FileMount, SandboxSpec } from "../../../src/sandbox/provider.ts";
import { runInside, shellInside } from "../../helpers/run-inside.ts";
import { sandboxSpec } from "../../helpers/sandbox-spec.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { connect } from "../../modal-emulator/sdk-client.ts";
import { needsEmulator, openScene } from "./open-modal.ts";

const trusted: Partial<SandboxSpec> = { role: "syncer", egress: { kind: "host" } };

function writeTree(folder: string): void {
  mkdirSync(join(folder, "empty"));
  mkdirSync(join(folder, "deep/er"), { recursive: true });
  writeFileSync(join(folder, "deep/er/näme with space"), "content");
  writeFileSync(join(folder, `${"long".repeat(20)}.txt`), "long");
  writeFileSync(join(folder, "program.sh"), "#!/bin/sh\necho ran\n");
  chmodSync(join(folder, "program.sh"), 0o700);
  symlinkSync("deep/er", join(folder, "link"));
}

test("files are where they belong, below volumes too, and what a sandbox did to them is undone", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  await using folder = await temporaryFolder();
  writeTree(folder.path);
  // more than one command of the build can carry
  writeFileSync(join(folder.path, "noise"), Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i * 31) % 251)));
  const volume = await scene.provider.volume("app");
  const spec = sandboxSpec({
    ...trusted,
    command: ["sh", "-c", "cp /app/.claude/program.sh /tmp/copy; mv /tmp/copy /tmp/seen-at-start; exec sleep 600"],
    files: [
      { hostPath: folder.path, path: "/app/.claude", copy: true },
      { hostPath: folder.path, path: "/srv/plain" },
      { hostPath: join(folder.path, "noise"), path: "/srv/noise" },
    ],
    volumes: [{ volume, path: "/app" }],
  });
  const look = `cd /app/.claude && ls -A && cat "deep/er/näme with space" && ./program.sh && readlink link && cat long*.txt && ls -d /srv/plain/link/ && until [ -e /tmp/seen-at-start ]; do sleep 0.05; done && cat /tmp/seen-at-start`;
  const first = await scene.provider.create(spec);
  const { stdout, stderr } = await shellInside(first, look);
  assert.equal(
    stdout,
    `deep\nempty\nlink\n${"long".repeat(20)}.txt\nnoise\nprogram.sh\ncontentran\ndeep/er\nlong/srv/plain/link/\n#!/bin/sh\necho ran\n`,
    stderr,
  );
  const hash = createHash("sha256")
    .update(readFileSync(join(folder.path, "noise")))
    .digest("hex");
  assert.equal((await shellInside(first, "sha256sum < /srv/noise")).stdout, `${hash}  -\n`);
  await shellInside(
    first,
    "echo changed > /app/.claude/program.sh; rm -r /app/.claude/deep; echo own > /app/own; sync /app",
  );
  await first.terminate();
  const second = await scene.provider.create({ ...spec, name: "second" });
  assert.equal((await shellInside(second, look)).stdout, stdout);
  assert.equal((await shellInside(second, "cat /app/own")).stdout, "own\n");
});

test("a process in a sandbox that is still being set up waits for its files", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  await using folder = await temporaryFolder();
  writeFileSync(join(folder.path, "file"), "content\n");
  // the launcher copies with the first cp on its path
  const slowCopy = '#!/bin/sh\nuntil [ -e /tmp/go-on ]; do sleep 0.05; done; exec /bin/cp "$@"\n';
  writeFileSync(join(folder.path, "cp"), slowCopy, { mode: 0o755 });
  const sandbox = await scene.provider.create(
    sandboxSpec({
      ...trusted,
      files: [
        { hostPath: join(folder.path, "file"), path: "/app/file" },
        { hostPath: join(folder.path, "cp"), path: "/usr/local/bin/cp" },
      ],
      volumes: [{ volume: await scene.provider.volume("app"), path: "/app" }],
    }),
  );
  const seen = shellInside(sandbox, "cat /app/file");
  await scene.emulator.waitFor(({ calls }) => calls.some(({ method }) => method === "TaskExecWait"));
  // as Modal starts a process, without our program before it
  const { client } = await connect(scene.emulator);
  const atModal = await client.sandboxes.fromId(sandbox.id);
  const started = "until [ $(ls /run/modal-sb-exec | wc -l) = 1 ]; do sleep 0.05; done; touch /tmp/go-on";
  await (await atModal.exec(["sh", "-c", started])).wait();
  client.close();
  assert.deepEqual(await seen, { code: 0, stdout: "content\n", stderr: "" });
});

test("an npm package is installed in its exact version, and our own files lie beside it", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const { version } = JSON.parse(readFileSync("node_modules/zod/package.json", "utf8")) as { version: string };
  const files: FileMount[] = [
    { hostPath: "package.json", path: "/agent/package.json" },
    { hostPath: "node_modules/zod", path: "/agent/node_modules/zod", npmPackage: { name: "zod", version } },
    { hostPath: import.meta.filename, path: "/agent/code/suite.js" },
  ];
  const sandbox = await scene.provider.create(sandboxSpec({ ...trusted, files }));
  const script =
    "import { z } from 'zod'; import fs from 'node:fs'; console.log(typeof z.object, process.version.slice(0, 4), JSON.parse(fs.readFileSync('/agent/node_modules/zod/package.json')).version, JSON.parse(fs.readFileSync('/agent/package.json')).name)";
  const { stdout, stderr } = await runInside(sandbox, ["/agent/bin/node", "--input-type=module", "-e", script], "", {
    workingDirectory: "/agent/code",
  });
  assert.equal(stdout, `function v24. ${version} modal-sb\n`, stderr);
});

test("the same files are the same image, whatever their times and owners; changed ones are not", async () => {
  await using folder = await temporaryFolder();
  writeTree(folder.path);
  const plan = () => imagePlan(sandboxSpec({ ...trusted, files: [{ hostPath: folder.path, path: "/srv/x" }] }));
  const first = plan();
  utimesSync(join(folder.path, "program.sh"), 1, 1);
  chmodSync(join(folder.path, "program.sh"), 0o755);
  assert.deepEqual(plan(), first);
  writeFileSync(join(folder.path, "program.sh"), "other");
  assert.notDeepEqual(plan(), first);
});

test("no command of a build is longer than a shell takes, none needs the build's context", async () => {
  await using folder = await temporaryFolder();
  writeFileSync(join(folder.path, "noise"), randomBytes(1_000_000));
  const { layers } = imagePlan(sandboxSpec({ ...trusted, files: [{ hostPath: folder.path, path: "/srv/x" }] }));
  for (const command of layers.flat()) {
    assert.ok(command.length < 65_536, String(command.length));
    assert.doesNotMatch(command, /^(COPY|ADD) /);
  }
});

test("too many files are refused with the name of the largest folder", async () => {
  await using folder = await temporaryFolder();
  mkdirSync(join(folder.path, "large"));
  mkdirSync(join(folder.path, "small"));
  writeFileSync(join(folder.path, "large/noise"), randomBytes(17 * 1024 * 1024));
  writeFileSync(join(folder.path, "small/noise"), "small");
  const files = ["small", "large"].map((name) => ({ hostPath: join(folder.path, name), path: `/srv/${name}` }));
  assert.throws(() => imagePlan(sandboxSpec({ ...trusted, files })), {
    name: "SandboxError",
    message: /more than 16 MiB.*large" with 17 MiB/,
  });
});

test("a failed build shows the end of its log, without what would act on a terminal", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const name = "modal-sb-no-such-package-of-the-test";
  const files = [{ hostPath: ".", path: `/agent/node_modules/${name}`, npmPackage: { name, version: "0.0.0" } }];
  await assert.rejects(scene.provider.create(sandboxSpec({ ...trusted, files })), (error: Error & { hint: string }) => {
    assert.equal(error.name, "SandboxError");
    assert.match(error.message, /The end of its log:\n[\s\S]*npm[\s\S]*modal-sb-no-such-package-of-the-test/);
    assert.match(error.hint, /modal\.com/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
    assert.doesNotMatch(error.message, /\x1b/);
    return true;
  });
  assert.deepEqual(scene.emulator.sandboxes(), []);
});

test("a known image is not asked for by its commands, and built again when Modal has lost it", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene();
  const count = (method: string) => scene.emulator.calls.filter((call) => call.method === method).length;
  await (await scene.provider.create(sandboxSpec(trusted))).terminate();
  const builds = count("ImageGetOrCreate");
  assert.ok(builds > 0);
  await (await (await scene.another()).create(sandboxSpec(trusted))).terminate();
  assert.equal(count("ImageGetOrCreate"), builds);
  const path = join(scene.stateFolder, "modal/images.json");
  writeFileSync(path, readFileSync(path, "utf8").replace(/im-\w+/g, "im-0000000000000000000000"));
  await (await (await scene.another()).create(sandboxSpec(trusted))).terminate();
  assert.equal(count("ImageGetOrCreate"), 2 * builds);
});

test("packages are installed in exact versions, and run nothing of their own meanwhile", async () => {
  await using folder = await temporaryFolder();
  const npmPackage = { name: "undici", version: "7.30.2" };
  const files = [{ hostPath: folder.path, path: "/agent/node_modules/undici", npmPackage }];
  const { layers } = imagePlan(sandboxSpec({ ...trusted, files }));
  const installs = layers.flat().filter((command) => command.includes("npm install"));
  assert.equal(installs.length, 1);
  assert.match(installs[0] ?? "", / --ignore-scripts .*undici@7\.30\.2$/);
});
