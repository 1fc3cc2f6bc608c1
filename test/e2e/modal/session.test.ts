/** A session on Modal, from the command line to the last sandbox: the real SDK, the real claude, an emulated cloud. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { canEmulate, modalUser } from "../../helpers/modal-user.ts";

test("one turn on a GPU: the answer on stdout, the key nowhere near the agent, nothing left running", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const { emulator, user } = modal;
  const found = await modal.run(["--gpu", "A10", "-p", "!bash echo inside; env | sort | head -50"]);
  assert.equal(found.code, 0, found.stderr);
  assert.match(found.stdout, /inside/);
  assert.ok(!`${found.stdout}${found.stderr}`.includes(user.key));
  const made = emulator.sandboxes();
  assert.deepEqual(made.map(({ gpu, backend }) => `${backend} ${gpu ?? "-"}`).sort(), ["v1 A10", "v2 -"]);
  assert.ok(made.every(({ running }) => !running));
  const agent = made.find(({ gpu }) => gpu !== undefined);
  assert.ok(!JSON.stringify(agent).includes(user.key));
});
