/** The main job, end to end: real sandbox, real claude, real proxy; only the API is scripted. */
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type Script, text } from "../../src/demo/script.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { maxMessageBytes } from "../../src/protocol/limits.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { shellInside } from "../helpers/run-inside.ts";
import { runningSession } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

test("the second turn's request carries the first turn; the API gets the real key, the sandbox never", async () => {
  await using running = await runningSession();
  const { say, api, key } = running;
  assert.equal((await say("my name is Ada")).text, "turn 1: You said: my name is Ada");
  assert.equal((await say("who am I")).text, "turn 2: You said: who am I");
  assert.match(JSON.stringify(api.requests.at(-1)?.body), /my name is Ada.*You said: my name is Ada.*who am I/);
  assert.ok(api.requests.length >= 2);
  assert.ok(api.requests.every((request) => request.headers["x-api-key"] === key));
  assert.doesNotMatch(JSON.stringify(api.requests.map((request) => request.headers)), /sb-/);
});

test("CLAUDE.md and a skill of the instructions are in the request", async () => {
  await using folder = await temporaryFolder();
  await mkdir(join(folder.path, "skills/juggling"), { recursive: true });
  await writeFile(join(folder.path, "CLAUDE.md"), "Always speak of quinces.");
  await writeFile(
    join(folder.path, "skills/juggling/SKILL.md"),
    "---\nname: juggling\ndescription: How to juggle five quinces\n---\nThrow them.",
  );
  await using running = await runningSession({ changes: { instructions: folder.path } });
  await running.say("hello");
  const body = JSON.stringify(running.api.requests.at(-1)?.body);
  assert.ok(body.includes("Always speak of quinces"));
  assert.ok(body.includes("How to juggle five quinces"));
});

test("the bundled instructions reach the model", async () => {
  await using running = await runningSession();
  await running.say("hello");
  const body = JSON.stringify(running.api.requests.at(-1)?.body);
  assert.match(body, /You work in a sandbox made by modal-sb/);
  assert.match(body, /training-run/);
});

for (const victim of ["claude", "daemon", "sandbox", "proxy"] as const) {
  test(`${victim} killed in mid-turn: the turn ends with an error, the next has the whole conversation`, async () => {
    await using running = await runningSession();
    const { say, waitFor, api } = running;
    await say("the word is kumquat");
    const lost = say("!hang");
    await waitFor("text_delta", (event) => event.text.includes("waiting"));
    if (victim === "sandbox") await running.session.kill();
    else if (victim === "proxy") await (await running.proxy()).terminate();
    else {
      const mark = victim === "claude" ? "--output-format" : "agent/daemon";
      // the first process of the sandbox has the daemon in its arguments, too
      const kill = `for p in $(grep -la -e ${mark} /proc/[0-9]*/cmdline); do
        case "$(readlink /proc/$(basename $(dirname $p))/exe)" in */node|*claude) kill -9 $(basename $(dirname $p));; esac; done`;
      await shellInside(await running.agent(), kill);
    }
    const end = await lost;
    assert.equal(end.result, "error");
    assert.match(end.error?.message ?? "", victim === "claude" ? /SIGKILL/ : /was lost|closed/);
    assert.equal((await say("what was the word")).result, "success");
    assert.match(JSON.stringify(api.requests.at(-1)?.body), /kumquat/);
  });
}

test("a later session of the same name continues the conversation, and finds its files", async () => {
  await using folder = await temporaryFolder();
  await using provider = await createProvider("local", { stateFolder: folder.path, hostEnvironment: process.env });
  const changes = { provider, name: "kept", stateFolder: folder.path };
  {
    await using first = await runningSession({ changes });
    await first.say("!bash echo 41 > /app/number; echo remember persimmon");
  }
  await using second = await runningSession({ changes });
  assert.equal((await second.say("!bash cat /app/number")).text.trim(), "41");
  assert.ok(second.events.some((event) => event.type === "host_notice" && event.kind === "session_resumed"));
  assert.match(JSON.stringify(second.api.requests.at(-1)?.body), /persimmon/);
  assert.deepEqual(
    second.events.filter((event) => event.type === "text_delta" && event.text.includes("persimmon")),
    [],
    "events of the first session are not shown again",
  );
});

test("a message that is refused costs no note to the agent; one at the limit is understood with the note before it", async () => {
  const others = echo();
  const script: Script = (request) =>
    request.userText.length > maxMessageBytes / 2 ? text("understood") : others(request);
  await using running = await runningSession({ script });
  const { say, session, api, events } = running;
  // in JSON, quotes stand around it
  const longest = "x".repeat(maxMessageBytes - 2);
  const known = new Set<unknown>();
  const lose = async () => {
    await session.ready;
    await session.kill();
    await running.waitFor("host_notice", (event) => event.kind === "sandbox_lost" && !known.has(event));
    for (const event of events) known.add(event);
  };
  await lose();
  const refused = await say(`${longest}y`);
  assert.equal(refused.result, "error");
  assert.equal(refused.error?.reason, "message_too_long");
  assert.equal((await say("short")).result, "success");
  assert.match(JSON.stringify(api.requests.at(-1)?.body), /You are in a new sandbox now.*short/);
  await lose();
  const { result, text: answer } = await say(longest);
  assert.deepEqual([result, answer], ["success", "understood"]);
  const asked = JSON.stringify(api.requests.at(-1)?.body);
  assert.match(asked, /You are in a new sandbox now/);
  assert.ok(asked.includes(longest));
  assert.deepEqual(
    events.filter(({ type }) => type === "protocol_error"),
    [],
  );
});

test("Python packages live in an environment on the data volume, and survive the sandbox", async () => {
  await using running = await runningSession();
  const { say } = running;
  const install =
    '!bash until [ -x /data/venv/bin/pip ]; do sleep 0.1; done; hash -r; site=$(python3 -c "import site; print(site.getsitepackages()[0])"); echo "x = 7" > "$site/quince.py"; pip --version; echo "$site"';
  assert.match((await say(install)).text, /^pip [\s\S]*\/data\/venv\//);
  await running.session.kill();
  assert.match((await say("!bash python3 -c 'import quince; print(quince.x)'")).text, /^7/);
});
