/** A large file needs no more memory than a small one, on either side. */
import assert from "node:assert/strict";
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Sandbox } from "../../src/sandbox/provider.ts";
import { Secret } from "../../src/secret.ts";
import { pull } from "../../src/transfer/pull.ts";
import { push } from "../../src/transfer/push.ts";
import type { Progress } from "../../src/transfer/report.ts";
import { processesOf } from "../helpers/processes.ts";
import { runInside, shellInside } from "../helpers/run-inside.ts";
import { openScene, type Scene } from "./scene.ts";

const sizeMiB = 300;
/** a fourth of the file; what a node needs by itself is not counted */
const maxGrowthMiB = 75;

let scene: Scene;
let sandbox: Sandbox;
before(async () => {
  scene = await openScene();
  sandbox = await scene.sandbox();
  await shellInside(sandbox, `head -c ${sizeMiB}M /dev/urandom > /tmp/large; echo x > /tmp/small`);
});
after(() => scene[Symbol.asyncDispose]());

/** Most memory that the host had during a transfer, and what its other side had at the half. */
async function peaks(run: (onProgress: (progress: Progress) => void) => Promise<unknown>) {
  const peak = { host: 0, inside: 0 };
  let looking: Promise<void> | undefined;
  const look = async () => {
    const found = (await processesOf(new Set([sandbox.id]))).filter(({ command }) =>
      command.startsWith("/agent/bin/node"),
    );
    peak.inside = Math.max(...found.map(({ residentMiB }) => residentMiB));
  };
  await run(({ bytes }) => {
    peak.host = Math.max(peak.host, process.memoryUsage.rss() / 2 ** 20);
    if (bytes > (sizeMiB / 2) * 2 ** 20) looking ??= look();
  });
  await looking;
  return peak;
}

function assertNoGrowth(small: { host: number }, large: { host: number; inside: number }) {
  assert(large.host - small.host < maxGrowthMiB, `the host: ${small.host} → ${large.host} MiB`);
  // a node that does nothing has about 50 MiB
  assert(large.inside > 0 && large.inside < 50 + 2 * maxGrowthMiB, `inside: ${large.inside} MiB`);
}

test("pull", async () => {
  const to = join(scene.folder, "pulled");
  mkdirSync(to);
  const small = await peaks((onProgress) => pull({ sandbox, from: "/tmp/small", to, onProgress }));
  const large = await peaks((onProgress) => pull({ sandbox, from: "/tmp/large", to, onProgress }));
  assertNoGrowth(small, large);
  assert.equal(statSync(join(to, "large")).size, sizeMiB * 2 ** 20);
});

test("push", async () => {
  const credentials = new Map([["key", new Secret("sk-ant-api03-not-in-there")]]);
  const from = (name: string) => join(scene.folder, "pulled", name);
  const small = await peaks((onProgress) =>
    push({ sandbox, from: from("small"), to: "/tmp/a", credentials, onProgress }),
  );
  const large = await peaks((onProgress) =>
    push({ sandbox, from: from("large"), to: "/tmp/b", credentials, onProgress }),
  );
  assertNoGrowth(small, large);
  assert.equal((await runInside(sandbox, ["cmp", "/tmp/large", "/tmp/b"])).code, 0);
});
