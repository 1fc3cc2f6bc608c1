import { test } from "node:test";
import { openScene } from "./open-modal.ts";
import { sandboxSpec } from "../../helpers/sandbox-spec.ts";
for (const [reset, token] of [[0,0],[0,1],[2,0]] as const)
test(`probe ${reset} ${token}`, { timeout: 12000 }, async () => {
  await using scene = await openScene();
  const sandbox = await scene.provider.create(sandboxSpec({ role: "syncer", egress: { kind: "host" } }));
  scene.emulator.faults.resetStreams = reset;
  scene.emulator.faults.routerTokenExpires = token;
  const p = await sandbox.exec(["sh", "-c", "head -c 52428800 /dev/zero | tee /tmp/copy"]);
  p.stderr.resume();
  let size = 0;
  const t = setInterval(() => console.log("size", size, scene.emulator.calls.slice(-6).map(c => c.method + c.status).join(" ")), 1500);
  for await (const c of p.stdout) size += c.length;
  clearInterval(t);
  console.log(reset, token, size, await p.exited);
});
