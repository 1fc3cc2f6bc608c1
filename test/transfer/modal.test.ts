/** The same transfers with a sandbox at Modal, over its exec. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { runtimeFiles } from "../../src/session/runtime-files.ts";
import { pull } from "../../src/transfer/pull.ts";
import { push } from "../../src/transfer/push.ts";
import { shellInside } from "../helpers/run-inside.ts";
import { sandboxSpec } from "../helpers/sandbox-spec.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { needsEmulator, openScene } from "../sandbox/modal/open-modal.ts";

for (const backend of ["v1", "v2"]) {
  test(`to a sandbox at Modal and back, with resumption (${backend})`, async (context) => {
    if (!(await needsEmulator(context))) return;
    await using scene = await openScene();
    await using folder = await temporaryFolder();
    const machine = { gpus: backend === "v1" ? ["A10"] : [], maxWaitMs: 60_000 };
    const files = runtimeFiles(["transfer/inside"], [], scene.stateFolder);
    await using sandbox = await scene.provider.create(sandboxSpec({ files, machine }));
    assert.deepEqual(
      scene.emulator.sandboxes().map((made) => made.backend),
      [backend],
    );

    const from = join(folder.path, "source");
    mkdirSync(join(from, "sub/empty"), { recursive: true });
    writeFileSync(join(from, "large"), randomBytes(20 * 2 ** 20));
    for (let index = 0; index < 1000; index += 1) writeFileSync(join(from, "sub", `${index}`), `${index}\n`);
    const credentials = new Map();
    const pushed = await push({ sandbox, from, to: "/tmp/x", credentials });
    assert.deepEqual([pushed.files, pushed.folders, pushed.failed.count], [1001, 3, 0]);

    const to = join(folder.path, "back");
    const stop = new AbortController();
    const onProgress = ({ bytes }: { bytes: number }) => bytes > 10 * 2 ** 20 && stop.abort(new Error("enough"));
    await assert.rejects(pull({ sandbox, from: "/tmp/x", to, signal: stop.signal, onProgress }), { message: "enough" });
    const pulled = await pull({ sandbox, from: "/tmp/x", to });
    assert.equal(pulled.resumed + pulled.same > 0, true);
    execFileSync("diff", ["-r", from, to]);

    await shellInside(sandbox, "printf changed > /tmp/x/sub/7");
    const again = await pull({ sandbox, from: "/tmp/x/", to });
    assert.deepEqual([again.same, again.existing.first], [1000, ["sub/7"]]);
    // nothing of the aborted one is left running; that it is killed is not waited for
    const count = "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c inside/mai[n]";
    while ((await shellInside(sandbox, count)).stdout !== "0\n") await delay(50);
  });
}
