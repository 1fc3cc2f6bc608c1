/** What a sandbox wrote last goes into errors and notices on a terminal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { lastWords } from "../../src/session/last-words.ts";

test("the last words of a sandbox act on no terminal, and are one short line", () => {
  const clipboard = "\u001b]52;c;cm0gLXJmIC8=\u0007";
  const screen = "\u001b[2J\u009b31m\u009d0;title\u009c\u202e\u0000";
  assert.equal(
    lastWords({ outputTail: `first\n${clipboard}${screen}your key is needed:\r\n\n` }),
    "your key is needed:",
  );
  assert.equal(lastWords({ outputTail: "x".repeat(5000) }), `${"x".repeat(300)}…`);
  assert.equal(lastWords({ outputTail: "" }), "");
});
