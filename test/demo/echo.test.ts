import assert from "node:assert/strict";
import { test } from "node:test";
import { readModelRequest } from "../../src/demo/model-request.ts";
import { dieMidStream, hang, refuse, text, toolUse } from "../../src/demo/script.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { assistant, requestOf, result, said, spoken, textOf, used, user } from "./requests.ts";

const ask = (line: string) => echo()(requestOf(user(said(line))));

test("echo says the user's text and the number of the turn", async () => {
  assert.equal(await textOf(echo(), user(said("hello  you"))), "turn 1: You said: hello  you");
  const second = [user(said("a")), assistant(said("b")), user(said("!nothing"))];
  assert.equal(await textOf(echo(), ...second), "turn 2: You said: !nothing");
});

test("!bash uses the tool, then says the first 2000 characters of its output", async () => {
  const command = "echo 'two  words'\necho more";
  assert.deepEqual(ask(`!bash ${command}`), toolUse("Bash", { command }));
  const conversation = [user(said(`!bash ${command}`)), assistant(used("a", "Bash", { command }))];
  assert.equal(await textOf(echo(), ...conversation, user(result("a", "out"))), "out");
  assert.equal((await textOf(echo(), ...conversation, user(result("a", "x".repeat(3000))))).length, 2000);
});

test("!tool uses any tool", () => {
  assert.deepEqual(
    ask('!tool Write {"file_path": "/x", "content": "a b"}'),
    toolUse("Write", { file_path: "/x", content: "a b" }),
  );
});

test("!error refuses every time", () => {
  const script = echo();
  const request = requestOf(user(said("!error 529")));
  assert.deepEqual(script(request), refuse(529));
  assert.deepEqual(script(request), refuse(529));
  assert.deepEqual(ask("!error 429 7"), refuse(429, { retryAfter: 7 }));
});

test("!error-once refuses once in each turn of each conversation", () => {
  const script = echo();
  const request = (turns: number, session_id: string) =>
    readModelRequest({
      messages: [user(...Array.from({ length: turns }, () => said("!error-once 500")))],
      metadata: { user_id: JSON.stringify({ session_id }) },
    });
  for (const asked of [request(1, "s"), request(2, "s"), request(1, "t")]) {
    assert.deepEqual(script(asked), refuse(500));
    assert.deepEqual(script(asked), text("recovered"));
  }
});

test("!die breaks off once, after as many whole blocks as asked", () => {
  const script = echo();
  const request = requestOf(user(said("!die")));
  assert.deepEqual(script(request), dieMidStream({ afterBlocks: 0 }, text("lost words")));
  assert.deepEqual(script(request), text("recovered"));
  assert.deepEqual(
    ask("!die 2"),
    dieMidStream({ afterBlocks: 2 }, text("block 1 "), text("block 2 "), text("lost words")),
  );
});

test("!die recovers when claude resumes the kept blocks, also on a server that has not seen the turn", async () => {
  assert.equal(await textOf(echo(), user(said("!die 1")), assistant(said("block 1 "))), "recovered");
});

test("!hang never ends", () => {
  assert.deepEqual(ask("!hang"), hang(text("waiting")));
});

test("!slow and !many say as many pieces as asked", () => {
  assert.deepEqual(ask("!slow 2 50"), { type: "text", deltas: ["tick 1\n", "tick 2\n"], deltaMs: 50 });
  assert.deepEqual(ask("!many 3"), { type: "text", deltas: ["tick 1\n", "tick 2\n", "tick 3\n"], deltaMs: 0 });
});

test("!long says exactly as many bytes as asked", async () => {
  for (const bytes of [1, 999, 1000, 1001, 5000]) {
    assert.equal((await textOf(echo(), user(said(`!long ${bytes}`)))).length, bytes);
  }
});

test("!raw says any characters", async () => {
  assert.equal(spoken(await ask('!raw "\\u001b]0;x\\u0007\\r\\n"')), "\u001b]0;x\u0007\r\n");
});
