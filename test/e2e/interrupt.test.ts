/** The first interrupt ends a turn, wherever it is on its way. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { ended, User } from "../helpers/cli.ts";
import { lineTalk } from "../helpers/line-talk.ts";
import { modalSession, runningOf, untilNothingRuns } from "../helpers/modal-session.ts";
import { canEmulate, modalUser } from "../helpers/modal-user.ts";
import { processesOf } from "../helpers/processes.ts";
import { runningSession } from "../helpers/running-session.ts";

test("an interrupt ends the running turn, and the next one goes on", async () => {
  await using running = await runningSession();
  const turn = running.say("!hang");
  await running.waitFor("text_delta", (event) => event.text.includes("waiting"));
  running.session.interrupt();
  assert.equal((await turn).result, "interrupted");
  assert.match((await running.say("next")).text, /next/);
});

test("an interrupt ends a turn that waits for its sandbox, at once; its message is never sent", async () => {
  await using running = await runningSession();
  let isReady = false;
  void running.session.ready.then(() => {
    isReady = true;
  });
  const turn = running.say("unwanted");
  running.session.interrupt();
  assert.equal((await turn).result, "interrupted");
  assert.equal(isReady, false);
  assert.equal((await running.say("wanted")).text, "turn 1: You said: wanted");
  assert.ok(!JSON.stringify(running.api.requests.map(({ body }) => body)).includes("unwanted"));
});

test("an interrupt ends a turn that is sent and not begun", async () => {
  await using running = await runningSession();
  const agent = await running.agent();
  const daemons = (await processesOf(new Set([agent.id]))).filter(
    ({ executable, command }) => /\/node$/.test(executable) && command.includes("agent/daemon"),
  );
  assert.ok(daemons.length > 0);
  for (const { pid } of daemons) process.kill(pid, "SIGSTOP");
  const first = running.say("!hang");
  const second = running.say("second");
  // both are written by then: the sandbox is there
  await setImmediate();
  running.session.interrupt();
  for (const { pid } of daemons) process.kill(pid, "SIGCONT");
  assert.equal((await first).result, "interrupted");
  assert.equal((await second).result, "success");
});

test("one Ctrl-C ends -p while its session waits for a GPU: exit code 130, no request, nothing left", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser({ faults: { gpuNeverFree: ["H100"] } });
  for (const flags of [[], ["--detach"], ["--output", "stream-json"]]) {
    const child = modal.start(["--gpu", "H100", "-s", "queued", ...flags, "-p", "hello"]);
    child.stdin?.end();
    const outcome = ended(child);
    await modal.emulator.waitFor(() => runningOf(modal, "queued").some(({ gpu }) => gpu === "H100"));
    child.kill("SIGINT");
    const { code, stderr } = await outcome;
    assert.equal(code, 130, stderr);
    if (!flags.includes("stream-json")) assert.match(stderr, /^interrupted$/m);
    await untilNothingRuns(modal);
  }
  assert.deepEqual(modal.user.api.requests, []);
});

test("one Ctrl-C ends a conversation in lines whose session waits for a GPU", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser({ faults: { gpuNeverFree: ["H100"] } });
  await using session = modalSession(modal, ["--gpu", "H100", "-s", "queued"]);
  session.talk.say("hello");
  await modal.emulator.waitFor(() => runningOf(modal, "queued").some(({ gpu }) => gpu === "H100"));
  session.child.kill("SIGINT");
  const [code] = await once(session.child, "close");
  assert.equal(code, 130);
  await untilNothingRuns(modal);
  assert.deepEqual(modal.user.api.requests, []);
});

test("one Ctrl-C ends -p as soon as its session has begun to start", async () => {
  await using user = await User.create();
  const child = user.start(["-p", "!hang", "--output", "stream-json"]);
  child.stdin?.end();
  const talk = lineTalk(child);
  const outcome = ended(child);
  await talk.until("stdout", /sandbox_started/);
  child.kill("SIGINT");
  assert.equal((await outcome).code, 130);
  assert.match(talk.stdout(), /"type":"END_TURN".*"result":"interrupted"/);
});
