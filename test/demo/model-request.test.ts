import assert from "node:assert/strict";
import { test } from "node:test";
import { readModelRequest } from "../../src/demo/model-request.ts";
import { assistant, requestOf, result, said, used, user } from "./requests.ts";

test("userText is what the user wrote, without claude's reminders", () => {
  const request = requestOf(
    user(
      said("<system-reminder>\nnot the user\n</system-reminder>"),
      said("hello <system-reminder>x</system-reminder>"),
    ),
    { role: "system", content: "environment" },
  );
  assert.deepEqual(request.userTexts, ["hello"]);
  assert.equal(request.userText, "hello");
});

test("userText may be a plain string, and is empty in a request without one", () => {
  assert.equal(requestOf({ role: "user", content: "plain" }).userText, "plain");
  assert.equal(requestOf({ role: "system", content: "plain" }).userText, "");
});

test("turnCount counts each text of messages that claude merged", () => {
  const request = requestOf(user(said("failed\n"), said("failed again\n"), said("now")));
  assert.deepEqual(request.userTexts, ["failed", "failed again", "now"]);
  assert.equal(request.turnCount, 3);
});

test("notes that claude writes in the user's name are no turns", () => {
  const request = requestOf(
    user(said("first")),
    assistant(said("half")),
    user(said("Your response above was cut off mid-stream. Resume directly from where it stops")),
    assistant(said("more")),
    user(said("Output token limit hit. Resume directly")),
    assistant(said("refused")),
    user(said("Your response above was stopped by a safety classifier")),
    assistant(said("rest")),
    user(said("[Request interrupted by user]\n"), said("second")),
  );
  assert.deepEqual(request.userTexts, ["first", "second"]);
  assert.equal(request.step, 0);
});

test("step counts the assistant's messages since the user's text", () => {
  const turn = [user(said("go")), assistant(used("a", "Bash", {})), user(result("a", "ok"))];
  assert.equal(requestOf(...turn.slice(0, 1)).step, 0);
  assert.equal(requestOf(...turn).step, 1);
  assert.equal(requestOf(...turn, assistant(said("done")), user(said("next"))).step, 0);
});

test("toolResults are those of the last message only, whatever shape their content has", () => {
  const request = requestOf(
    user(said("go")),
    assistant(used("old", "Bash", {})),
    user(result("old", "old")),
    assistant(used("a", "Bash", {}), used("b", "Bash", {})),
    user(result("a", "plain", true), result("b", [said("in"), said("blocks")])),
    { role: "system", content: "a reminder" },
  );
  assert.deepEqual(request.toolResults, [
    { id: "a", text: "plain", isError: true },
    { id: "b", text: "in\nblocks", isError: false },
  ]);
});

test("toolCalls are in the order of their use, each with its own result", () => {
  const request = requestOf(
    user(said("go")),
    assistant(used("a", "Bash", { command: "x" }), used("b", "Read", {})),
    user(result("b", "second"), result("a", "first")),
    assistant(used("c", "Write", {})),
  );
  assert.deepEqual(
    request.toolCalls.map(({ name, result }) => [name, result?.text]),
    [
      ["Bash", "first"],
      ["Read", "second"],
      ["Write", undefined],
    ],
  );
  assert.deepEqual(request.toolCalls[0]?.input, { command: "x" });
});

test("conversation is claude's session id, another client's user id, or empty", () => {
  const conversation = (metadata: unknown) => readModelRequest({ messages: [], metadata }).conversation;
  assert.equal(conversation({ user_id: '{"session_id":"s-1"}' }), "s-1");
  assert.equal(conversation({ user_id: "somebody" }), "somebody");
  assert.equal(conversation(undefined), "");
});
