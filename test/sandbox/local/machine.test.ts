/** How the local provider sees the machine: whether sandboxes can be made, and whether a process is still there. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { startTime } from "../../../src/sandbox/local/process-table.ts";

const source = join(import.meta.dirname, "../../../src/sandbox/local");

test("a process that has ended is gone, also while nobody has waited for it", async () => {
  const parent = `
import os, sys
pid = os.fork()
if pid == 0: os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print(pid, flush=True)
sys.stdin.read()`;
  const child = spawn("python3", ["-c", parent], { stdio: ["pipe", "pipe", "inherit"] });
  const pid = Number(await firstLine(child));
  assert.equal(startTime(pid), undefined);
  assert.match(startTime(child.pid as number) ?? "", /^\d+$/);
  child.stdin?.end();
  await once(child, "exit");
  assert.equal(startTime(child.pid as number), undefined);
});

test("mounts that come and go elsewhere do not make the machine look unfit", async (context) => {
  if (process.getuid?.() !== 0) return context.skip("only root can make mounts");
  const looks = `
    import { checkRequirements } from ${JSON.stringify(join(source, "requirements.ts"))};
    import { openStateFolders } from ${JSON.stringify(join(source, "state-folders.ts"))};
    const folders = openStateFolders("/run/state", undefined);
    for (let count = 0; count < 30; count++) {
      const found = await checkRequirements(process.env, folders);
      console.log(found.find(({ name }) => name === "user namespaces").state);
    }`;
  // in a mount namespace of its own: mounts of hundreds of namespaces, as ip-netns makes and ends them
  const script = `
    set -e
    mount -t tmpfs tmpfs /run; mount --make-shared /run; mkdir /run/churn; touch $(seq -f /run/churn/%g 200)
    for n in $(seq 200); do mount --bind /dev/null /run/churn/$n; umount -l /run/churn/$n; done
    while :; do
      for n in $(seq 200); do mount --bind /dev/null /run/churn/$n; done
      for n in $(seq 200); do umount -l /run/churn/$n; done
    done & code=0; "$0" --input-type=module -e "$1" || code=$?; kill $!; exit $code`;
  const child = spawn("unshare", ["--mount", "sh", "-c", script, process.execPath, looks], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  assert.ok(child.stdout);
  assert.deepEqual((await text(child.stdout)).trim().split("\n"), new Array(30).fill("ok"));
  assert.deepEqual(await exited, [0, null]);
});

async function firstLine(child: ChildProcess): Promise<string> {
  assert.ok(child.stdout);
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  return line;
}
