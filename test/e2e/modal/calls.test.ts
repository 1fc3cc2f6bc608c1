/** The calls of one session are those that docs/modal.md lists: none is made twice where once would do. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { canEmulate, modalUser } from "../../helpers/modal-user.ts";

const page = readFileSync(join(import.meta.dirname, "../../../docs/modal.md"), "utf8");

/** asked and answered; the others last as long as what they wait for, or carry what is said */
const isCounted = (method: string) =>
  !/^(SandboxWait(V2)?|SandboxGetLogs|SandboxStdioReadV2|TaskExec(Wait|StdioRead|StdinWrite))$/.test(method);

/** method → times, from the table */
function documentedCalls(): Record<string, number> {
  const rows = [...page.matchAll(/^\| `(\w+)` \| (\d+) \|/gm)];
  return Object.fromEntries(rows.map(([, method = "", times]) => [method, Number(times)]));
}

test("a session with a GPU whose images are built makes the calls that docs/modal.md lists, and no more", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const { emulator } = modal;
  await modal.run(["--gpu", "A10", "-p", "hello"]);
  const before = emulator.calls.length;
  assert.equal((await modal.run(["--gpu", "A10", "-p", "hello"])).code, 0);
  const counts: Record<string, number> = {};
  for (const { method } of emulator.calls.slice(before)) {
    if (isCounted(method)) counts[method] = (counts[method] ?? 0) + 1;
  }
  // how often is asked whether the GPU is there depends on the wait
  counts["SandboxGetTaskId"] = 1;
  assert.deepEqual(counts, documentedCalls());
});
