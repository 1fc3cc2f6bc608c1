/** A sandbox of Modal that is taken away: what is said, to the user and to the agent, and that the next turn goes on. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { lineTalk } from "../../helpers/line-talk.ts";
import { canEmulate, modalUser } from "../../helpers/modal-user.ts";

test("what a turn has written is committed at its end, and not some time later", async (context) => {
  if (!(await canEmulate(context))) return;
  // no commits in the background
  await using modal = await modalUser({ commitEveryMs: 3_600_000 });
  const child = modal.start(["-s", "kept"]);
  const talk = lineTalk(child);
  talk.say("!bash echo precious > /data/file; echo written");
  await talk.until("stdout", /written[\s\S]*END_TURN\n/);
  const data = modal.emulator.volumes().find(({ name }) => name.endsWith("kept-data"));
  await modal.emulator.waitFor(() => existsSync(join(data?.committedPath ?? "", "file")));
  child.stdin?.end();
  await once(child, "close");
});

test("a preempted GPU ends the turn in words; the next one goes on in a new sandbox with /data and what was said", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const child = modal.start(["--gpu", "A10", "-s", "kept"]);
  const talk = lineTalk(child);
  talk.say("!bash echo precious > /data/file; echo gone > /tmp/file; echo written");
  await talk.until("stdout", /written[\s\S]*END_TURN\n/);
  talk.say("!bash touch /tmp/busy; sleep 500");
  const agent = modal.emulator.sandboxes().find(({ running, gpu }) => running && gpu !== undefined);
  await modal.user.api.waitForRequest(({ body }) => JSON.stringify(body).includes("sleep 500"));
  await modal.emulator.preempt(agent?.id ?? "");
  await talk.until("stdout", /(END_TURN\n[\s\S]*){2}$/);
  await talk.until("stderr", /Modal took its machine back/);
  assert.match(talk.stderr(), /Kept: the conversation, \/app and \/data/);
  assert.match(talk.stderr(), /Lost: running programs and all other files/);
  talk.say("!bash cat /data/file; ls /tmp/file; true");
  await talk.until("stdout", /precious[\s\S]*END_TURN\n$/);
  assert.match(talk.stdout(), /cannot access '\/tmp\/file'/);
  const told = modal.user.api.requests
    .map(({ body }) => JSON.stringify(body))
    .find((body) => body.includes("You are in a new sandbox"));
  assert.ok(told, "the agent is told what is lost");
  child.stdin?.end();
  const [code] = await once(child, "close");
  assert.equal(code, 3);
  assert.ok(modal.emulator.sandboxes().every(({ running }) => !running));
});
