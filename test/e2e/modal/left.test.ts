/** A session that was left on purpose: nothing but its own end, or a person who wants it, ends it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { lineTalk } from "../../helpers/line-talk.ts";
import { canEmulate, type ModalUser, modalUser } from "../../helpers/modal-user.ts";

const runningRoles = ({ emulator }: ModalUser) =>
  emulator
    .sandboxes()
    .filter(({ running }) => running)
    .map(({ tags }) => tags["role"])
    .sort();

test("an attach that does not get through, and a terminal that closes, leave it as it was", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const left = await modal.run(["-s", "night", "--detach", "-p", "!bash echo begun; sleep 600"]);
  assert.equal(left.code, 0, left.stderr);
  assert.deepEqual(runningRoles(modal), ["agent", "proxy"]);

  const off = modal.emulator.onCall(({ method }) => {
    if (method === "SandboxGetFromNameV2") modal.emulator.faults.routerTokenExpires = 12;
  });
  const refused = await modal.run(["attach", "night"]);
  off();
  modal.emulator.faults.routerTokenExpires = 0;
  assert.equal(refused.code, 3, refused.stderr);
  assert.match(refused.stderr, /The session "night" runs, and cannot be taken over[\s\S]*modal-sb stop night ends it/);
  assert.deepEqual(runningRoles(modal), ["agent", "proxy"]);

  const attached = modal.start(["attach", "night"]);
  const talk = lineTalk(attached);
  await talk.until("stderr", /● Bash echo begun/);
  attached.kill("SIGHUP");
  const [code] = await once(attached, "close");
  assert.equal(code, 129, talk.stderr());
  assert.deepEqual(runningRoles(modal), ["agent", "proxy"]);
  assert.match((await modal.run(["ls"])).stdout, /detached[\s\S]*detached/);
  assert.match((await modal.run(["gc", "--yes"])).stderr, /[Nn]othing to remove/);

  const stopped = await modal.run(["stop", "night"]);
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.deepEqual(runningRoles(modal), []);
});

test("what was left is held to its lifetime; taken over and then killed, only for minutes", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  await modal.run(["-s", "held", "--detach", "-p", "hello"]);
  const holds = async () => {
    const { stdout } = await modal.run(["shell", "held", "--", "ps", "-eo", "args"]);
    return [...stdout.matchAll(/^sleep (\d+)$/gm)].map(([, seconds]) => Number(seconds));
  };
  const left = await holds();
  assert.ok(
    left.some((seconds) => seconds > 22 * 3600),
    String(left),
  );
  const attached = modal.start(["attach", "held"]);
  const talk = lineTalk(attached);
  talk.say("hello again");
  await talk.until("stdout", /turn 2: You said: hello again\nEND_TURN/);
  attached.kill("SIGKILL");
  await once(attached, "close");
  const killed = await holds();
  assert.ok(
    killed.every((seconds) => seconds <= 300),
    String(killed),
  );
  assert.match((await modal.run(["gc", "--yes"])).stderr, /held/);
  assert.deepEqual(runningRoles(modal), []);
});

test("a message whose process died before it was sent is sent by the process that takes the session over", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  await modal.run(["-s", "unsent", "--detach", "-p", "hello"]);
  const path = join(modal.user.stateFolder, "sessions/unsent.live");
  const live = JSON.parse(await readFile(path, "utf8"));
  live.turns.push({ turnId: "unsent-turn", nonce: "unsent-nonce", text: "better late", after: 0 });
  await writeFile(path, JSON.stringify(live));
  const attached = modal.start(["attach", "unsent"]);
  const talk = lineTalk(attached);
  await talk.until("stdout", /You said: better late/);
  attached.stdin?.end();
  const [code] = await once(attached, "close");
  assert.equal(code, 0, talk.stderr());
});
