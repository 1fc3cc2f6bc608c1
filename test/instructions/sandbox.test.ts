/** In a session's own sandbox: the scripts lie where the skills say, and write where modal-sb reads. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { pipeline } from "node:stream/promises";
import { test } from "node:test";
import type { Sandbox } from "../../src/sandbox/provider.ts";
import { shellInside } from "../helpers/run-inside.ts";
import { runningSession } from "../helpers/running-session.ts";
import { isInstalled, newest } from "../syncer/runs.ts";
import { environmentOf } from "../syncer/trackio.ts";

test("setup_trackio works in a session's sandbox, with its folders and its environment", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using running = await runningSession();
  const sandbox = await running.agent();
  const missing = await shellInside(sandbox, "python3 /app/.claude/scripts/setup_trackio.py project acme/metrics");
  assert.match(missing.stderr, /trackio is not installed: pip install trackio==/);
  await bring(String(environmentOf(newest, "")["PYTHONPATH"]), sandbox, "/data/packages");
  const script = `export PYTHONPATH=/data/packages PYTHONDONTWRITEBYTECODE=1
python3 - <<'end'
import sys
sys.path.insert(0, "/app/.claude/scripts")
from setup_trackio import setup_trackio
import trackio
run_dir = setup_trackio("project", "acme/metrics")
trackio.log({"loss": 1})
trackio.finish()
end
ls -d /data/runs/*/* "$TRACKIO_DIR"/*.db; cat /trackio/space_id /trackio/spaces/project`;
  const { code, stdout, stderr } = await shellInside(sandbox, script);
  assert.equal(code, 0, stderr);
  const end = /\/data\/runs\/project-\d{8}-\d{6}\/checkpoint\n\/.*\/project\.db\nacme\/metrics\nacme\/metrics\n$/;
  assert.match(stdout, end);
});

test("the scripts that look at the machine work in a session's sandbox", async () => {
  await using running = await runningSession();
  const sandbox = await running.agent();
  const report = await shellInside(sandbox, "python3 /app/.claude/scripts/gpu_report.py --json");
  assert.equal(report.code, 0, report.stderr);
  const { cpu, memory, disk } = JSON.parse(report.stdout) as Record<string, Record<string, unknown>>;
  assert.equal(disk?.["folder"], "/data");
  for (const number of [cpu?.["cores"], memory?.["total_gib"], disk?.["free_gib"]]) assert.ok(Number(number) > 0);
  const fit = "python3 /app/.claude/scripts/fit_check.py --gpu T4 --parameters";
  const codes = await shellInside(sandbox, `${fit} 10M; echo $?; ${fit} 70B; echo $?; ${fit} x; echo $?`);
  assert.deepEqual(codes.stdout.match(/^\d$/gm), ["0", "1", "2"]);
});

/** Copies a folder into the sandbox, through its own tar: installing needs a network. */
async function bring(folder: string, sandbox: Sandbox, to: string): Promise<void> {
  const packed = spawn("tar", ["-C", folder, "-c", "."], { stdio: ["ignore", "pipe", "inherit"] });
  const unpacking = await sandbox.exec(["sh", "-c", `mkdir ${to} && tar -C ${to} -x --no-same-owner`]);
  unpacking.stdout.resume();
  unpacking.stderr.resume();
  await pipeline(packed.stdout, unpacking.stdin);
  assert.equal((await unpacking.exited).code, 0);
}
