/** The commands for sessions that run, on Modal: where sandboxes outlive the process that made them, and cost money. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { type LineTalk, lineTalk } from "../../helpers/line-talk.ts";
import { canEmulate, type ModalUser, modalUser } from "../../helpers/modal-user.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { controlC, controlD, Terminal } from "../../helpers/terminal.ts";
import { isInstalled, newest, quiet, runsOf } from "../../syncer/runs.ts";
import { startTrackio, writeToken } from "../../syncer/trackio.ts";

type Row = Record<string, unknown>;

async function listed({ run }: ModalUser): Promise<Row[]> {
  const { stdout } = await run(["ls", "--json"]);
  return stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Row);
}

/** A session that has answered its first message. */
async function begun({ start }: ModalUser, name: string, message = "hello") {
  const child = start(["--gpu", "A10", "-s", name]);
  const talk: LineTalk = lineTalk(child);
  talk.say(message);
  const dispose = async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "close");
  };
  try {
    await talk.until("stdout", /END_TURN\n/);
    return { child, talk, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

const running = ({ emulator }: ModalUser) => emulator.sandboxes().filter((sandbox) => sandbox.running);

/** Roles in the order in which their sandboxes end. */
function watchEnds({ emulator }: ModalUser): (string | undefined)[] {
  const ended = new Map<string, string | undefined>();
  const order: (string | undefined)[] = [];
  emulator.onCall(() => {
    for (const { id, running: runs, tags } of emulator.sandboxes()) {
      if (runs || ended.has(id)) continue;
      ended.set(id, tags["role"]);
      order.push(tags["role"]);
    }
  });
  return order;
}

test("a session that a process has: its price, a command in it, and stop by that process", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  await using one = await begun(modal, "one", "!bash echo quince > /data/note");
  const { stdout } = await modal.run(["ls"]);
  assert.match(
    stdout,
    new RegExp(`one +modal +agent +process ${one.child.pid} +\\d[\\w ]* +A10 +22 h 5\\d min +\\$\\d+\\.\\d\\d `),
  );
  assert.match(stdout, /2 sandboxes of 1 session · \$\d\.\d\d an hour · \$0\.\d+ so far/);
  const outcome = await modal.run(["shell", "--", "sh", "-c", "cat /data/note; cat; echo problem >&2; exit 7"], {
    input: "given\n",
  });
  assert.deepEqual(outcome, { code: 7, stdout: "quince\ngiven\n", stderr: "problem\n" });
  assert.match((await modal.run(["gc", "--yes"])).stdout, new RegExp(`keep +one .*in use by process ${one.child.pid}`));
  const stopped = await modal.run(["stop"]);
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.match(stopped.stderr, /Stopped "one": .*about \$0\.\d+ by list price/);
  assert.deepEqual(running(modal), []);
});

test("a session that was left: kept by gc, open to shell, ended by stop with the agent first", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const left = await modal.run([
    "--gpu",
    "A10",
    "-s",
    "left",
    "--detach",
    "-p",
    "!bash echo quince > /data/note; sleep 600",
  ]);
  assert.equal(left.code, 0, left.stderr);
  assert.deepEqual((await listed(modal)).map(({ role, state }) => [role, state]).sort(), [
    ["agent", "detached"],
    ["proxy", "detached"],
  ]);
  const gc = await modal.run(["gc", "--yes"]);
  assert.equal(gc.code, 0);
  assert.match(gc.stdout, /keep +left .*left running on purpose until/);
  assert.equal(running(modal).length, 2);
  assert.equal(
    (await modal.run(["shell", "--", "sh", "-c", "until cat /data/note; do sleep 0.1; done"])).stdout,
    "quince\n",
  );
  // a user who has not said where finds it all the same
  const anywhere = { env: { MODAL_SB_PROVIDER: undefined } };
  assert.match((await modal.run(["ls"], anywhere)).stdout, /left +modal +agent +detached/);
  assert.equal((await modal.run(["shell", "left", "--", "cat", "/data/note"], anywhere)).stdout, "quince\n");
  assert.match((await modal.run(["gc"], anywhere)).stdout, /keep +left .*left running on purpose/);
  const ends = watchEnds(modal);
  const stopped = await modal.run(["stop"], anywhere);
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.deepEqual(running(modal), []);
  assert.match(stopped.stderr, /The conversation is kept: modal-sb --on modal --session left/);
  assert.match((await modal.run(["stop", "left"])).stderr, /is not running/);
  assert.deepEqual(ends, ["agent", "proxy"]);
});

test("a process that is killed leaves orphans; gc asks, then ends them and nobody else's", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  await using lost = await begun(modal, "lost");
  await using used = await begun(modal, "used");
  await using elsewhere = await temporaryFolder();
  const theirs = modal.start(["-s", "theirs", "--state-folder", join(elsewhere.path, "state")]);
  const talk = lineTalk(theirs);
  talk.say("hello");
  await talk.until("stdout", /END_TURN\n/);
  lost.child.kill("SIGKILL");
  theirs.kill("SIGKILL");
  await Promise.all([once(lost.child, "close"), once(theirs, "close")]);
  assert.equal(running(modal).length, 6);

  const unanswered = await modal.run(["gc", "--yes"], { env: { MODAL_SERVER_URL: "http://127.0.0.1:1" } });
  assert.equal(unanswered.code, 3, unanswered.stderr);
  const asked = await modal.run(["gc"]);
  assert.equal(asked.code, 2);
  assert.match(asked.stdout, /REMOVE +lost +agent .*no process has its session any more/);
  assert.doesNotMatch(asked.stdout, /theirs/);
  const terminal = new Terminal({ environment: () => modal.user.environment(modal.env), home: modal.user.home }, "gc");
  await terminal.sees(/modal-sb attach lost/);
  await terminal.sees(/Remove 2 orphans, \$\d\.\d\d an hour\? \[y\/N\]/);
  terminal.type(controlC);
  await terminal.sees(/Nothing was removed/);
  assert.equal(await terminal.exited, 0);
  const capped = await modal.run(["gc", "--yes", "--max", "1"]);
  assert.equal(capped.code, 2);
  assert.match(capped.stderr, /modal-sb gc --max 2/);
  assert.equal(running(modal).length, 6);

  const removed = await modal.run(["gc", "--yes"]);
  assert.equal(removed.code, 0, removed.stderr);
  const left = running(modal).map(({ tags }) => tags["session"]);
  assert.deepEqual(left.sort(), ["theirs", "theirs", "used", "used"]);
  used.talk.say("still there?");
  await used.talk.until("stdout", /still there\?\nEND_TURN\n/);
  used.child.stdin?.end();
  await once(used.child, "close");
});

test("an interactive shell: a prompt, Ctrl-C for the command, no escape sequence, Ctrl-D", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  await using one = await begun(modal, "one");
  const environment = () => modal.user.environment(modal.env);
  const terminal = new Terminal({ environment, home: modal.user.home }, "shell");
  await terminal.sees(/agent:\/app\$ /);
  terminal.type("printf '\\033]52;c;cm0=\\007\\033[2Jvisible\\n'\r");
  const shown = await terminal.sees(/\r\n[^\n]*visible/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  assert.doesNotMatch(shown, /[\u001b\u0007]/);
  await terminal.sees(/agent:\/app\$ /);
  terminal.type("echo begun; sleep 600; echo behind\r");
  await terminal.sees(/\nbegun/);
  terminal.type(controlC);
  await terminal.sees(/agent:\/app\$ /);
  terminal.type("echo alive\r");
  await terminal.sees(/\nalive/);
  await terminal.sees(/agent:\/app\$ /);
  terminal.type(controlD);
  assert.equal(await terminal.exited, 0);
  one.child.stdin?.end();
  await once(one.child, "close");
});

test("stop sends the metrics of a session that was left", async (context) => {
  if (!(await canEmulate(context)) || !(await isInstalled(newest, context))) return;
  await using remote = await temporaryFolder();
  await using server = await startTrackio(newest, "own", remote.path);
  await using modal = await modalUser({ world: { "metrics.example": new URL(server.address).host } });
  const env = { TRACKIO_WRITE_TOKEN: writeToken };
  const train = `!bash python3 -c 'import trackio; trackio.init(project="p", name="left", ${quiet.replaceAll("'", '"')}); [trackio.log({"loss": 1 / (i + 1)}) for i in range(20)]; trackio.finish()' 2>&1 && touch /data/trained`;
  const flags = ["--metrics", "https://metrics.example", "-s", "mine"];
  const left = await modal.run([...flags, "--detach", "-p", train], { env });
  assert.equal(left.code, 0, left.stderr);
  const waited = await modal.run(["shell", "--", "sh", "-c", "until [ -e /data/trained ]; do sleep 0.1; done"]);
  assert.equal(waited.code, 0, waited.stderr);
  const stopped = await modal.run([...flags.slice(0, 2), "stop", "mine"], { env });
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.match(stopped.stderr, /metrics: all sent/);
  assert.deepEqual(runsOf(remote.path), { left: 20 }, stopped.stderr);
  assert.deepEqual(running(modal), []);
});
