/** A connection that breaks under a living sandbox: it is made again, and the turn goes on. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { createProvider } from "../../../src/sandbox/sandbox.ts";
import { lineTalk } from "../../helpers/line-talk.ts";
import { canEmulate, modalUser } from "../../helpers/modal-user.ts";
import { runInside } from "../../helpers/run-inside.ts";

test("connections that break in the middle of a turn are made again; the turn's text comes whole, and once", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const child = modal.start(["-s", "kept"]);
  const talk = lineTalk(child);
  talk.say("hello");
  await talk.until("stdout", /END_TURN\n$/);
  talk.say("!slow 40 100");
  await modal.user.api.waitForRequest(({ body }) => JSON.stringify(body).includes("!slow 40"));
  await using provider = await createProvider("modal", {
    stateFolder: modal.user.stateFolder,
    hostEnvironment: modal.emulator.environment,
  });
  for (const record of await provider.list({ session: "kept" })) {
    const sandbox = await provider.open(record);
    if (sandbox) await runInside(sandbox, ["pkill", "-x", "socat"]);
    await sandbox?.release();
  }
  await talk.until("stdout", /(END_TURN\n[\s\S]*){2}$/);
  const [, text = ""] = talk.stdout().split("END_TURN\n");
  const whole = Array.from({ length: 40 }, (_, index) => `${index + 1}`);
  assert.deepEqual(text.match(/\d+/g), whole, talk.stderr());
  talk.say("and now?");
  await talk.until("stdout", /turn 3: You said: and now\?\nEND_TURN\n$/);
  assert.doesNotMatch(talk.stderr(), /Lost:/);
  assert.equal(modal.emulator.sandboxes().length, 2);
  child.stdin?.end();
  await once(child, "close");
});
