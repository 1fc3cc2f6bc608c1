import assert from "node:assert/strict";
import { test } from "node:test";
import { maxHostLineBytes, maxMessageBytes } from "../../src/protocol/limits.ts";
import { tooLong, withNotes } from "../../src/session/message-size.ts";

/** in JSON, quotes stand around a message */
const room = maxMessageBytes - 2;

test("a message is judged by its bytes in JSON", () => {
  const atLimit = ["x".repeat(room), "é".repeat(room / 2), '"'.repeat(room / 2), "\u0001".repeat(room / 6)];
  for (const message of atLimit) {
    assert.equal(tooLong(message), undefined);
    assert.match(tooLong(`${message}x`)?.message ?? "", /too long/);
  }
});

test("notes go with the longest message as far as its line has room, and the others wait, in order", () => {
  const notes = Array.from({ length: 50 }, (_, index) => `${index} ${"\n".repeat(1000)}`);
  const all = [...notes];
  const sent = withNotes(notes, "x".repeat(room));
  const line = JSON.stringify({ type: "user", turnId: "t".repeat(64), nonce: "n".repeat(128), text: sent });
  assert.ok(Buffer.byteLength(line) <= maxHostLineBytes);
  assert.ok(notes.length > 0 && notes.length < all.length);
  assert.ok(sent === [...all.slice(0, all.length - notes.length), "x".repeat(room)].join("\n\n"));
  const waiting = [...notes];
  assert.equal(withNotes(notes, "hello"), [...waiting, "hello"].join("\n\n"));
  assert.deepEqual(notes, []);
});
