/** What an agent with root in its sandbox leaves for the host and for later sandboxes of its session. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { lineTalk } from "../../helpers/line-talk.ts";
import { canEmulate, modalUser } from "../../helpers/modal-user.ts";

test("programs that an agent leaves on its volume hold no later start; odd things among the metrics break no copy", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const plant = `for name in curl seq sleep sh; do printf '#!/bin/sh\\nexec /usr/bin/sleep 600\\n' > /data/venv/bin/$name; chmod 755 /data/venv/bin/$name; done
    mkdir -p /trackio/x.db-wal/deep; ln -s /etc/passwd /trackio/y.db; /usr/bin/sync /trackio; echo planted`;
  const first = await modal.run(["-s", "plant", "-p", `!bash ${plant.replaceAll("\n", " ")}`]);
  assert.match(first.stdout, /planted/, first.stderr);
  const second = await modal.run(["-s", "plant", "-p", "hello"]);
  assert.equal(second.code, 0, second.stderr);
  assert.match(second.stdout, /turn 2: You said: hello/);
  for (const round of [1, 2]) {
    const shown = await modal.run(["metrics", "plant"]);
    assert.equal(shown.code, 2, `${round}: ${shown.stderr}`);
    assert.doesNotMatch(shown.stderr, /bug in modal-sb|root:/);
  }
});

test("an agent that breaks the connection each time it is made says one thing, and does not hold the host at its end", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const child = modal.start(["-s", "mute"]);
  const talk = lineTalk(child);
  talk.say("!bash ln -sf /bin/true /usr/bin/socat; pkill -x socat; sleep 600");
  await talk.until("stderr", /connection to the agent is lost/);
  const tries = () => modal.emulator.calls.filter(({ method }) => method === "TaskExecStart").length;
  const before = tries();
  await modal.emulator.waitFor(() => tries() >= before + 3);
  assert.equal(talk.stderr().match(/connection to the agent/g)?.length, 1, talk.stderr());
  child.kill("SIGTERM");
  const [code] = await once(child, "close");
  assert.equal(code, 143);
  assert.ok(modal.emulator.sandboxes().every(({ running }) => !running));
});
