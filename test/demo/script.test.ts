import assert from "node:assert/strict";
import { test } from "node:test";
import { refuse, script, sequence, slow, text } from "../../src/demo/script.ts";
import { assistant, requestOf, said, textOf, user } from "./requests.ts";

const first = [user(said("please count"))];
const second = [...first, assistant(said("one")), user(said("<system-reminder>go on</system-reminder>"))];

test("sequence() gives the reply of the request's step, made or ready", async () => {
  const counting = sequence(text("one"), (request) => text(`two of turn ${request.turnCount}`));
  assert.equal(await textOf(counting, ...first), "one");
  assert.equal(await textOf(counting, ...second), "two of turn 1");
});

test("sequence() refuses a request too many", () => {
  assert.deepEqual(
    sequence(text("one"))(requestOf(...second)),
    refuse(400, { message: "The script has no reply for step 1" }),
  );
});

test("script() takes the first rule that fits, else the fallback", async () => {
  const table = script(
    [
      { when: /count/, replies: [text("one"), text("two")] },
      { when: /please/, replies: [text("never")] },
    ],
    (request) => text(`no rule for ${request.userText}`),
  );
  assert.equal(await textOf(table, ...first), "one");
  assert.equal(await textOf(table, ...second), "two");
  assert.equal(await textOf(table, user(said("help"))), "no rule for help");
});

test("text() is cut into words without losing a character", () => {
  const content = `  two  words\n\nand 😀 ${"x".repeat(150)}\t`;
  const block = slow(3, content);
  assert.ok(block.type === "text");
  assert.equal(block.deltas.join(""), content);
  assert.deepEqual(block.deltas.slice(0, 4), ["  two", "  words", "\n\nand", " 😀"]);
  assert.equal(Math.max(...block.deltas.map((delta) => delta.length)), 65);
  assert.equal(block.deltaMs, 3);
});

test("refuse() sends the wait as a header, beside others", () => {
  assert.deepEqual(refuse(429, { retryAfter: 0, message: "slow down", headers: { "x-should-retry": "false" } }), {
    type: "refusal",
    status: 429,
    message: "slow down",
    headers: { "retry-after": "0", "x-should-retry": "false" },
  });
});
