import assert from "node:assert/strict";
import { test } from "node:test";
import { SentinelGuard } from "../../src/cli/sentinel.ts";

function guarded(pieces: readonly string[]): string {
  const guard = new SentinelGuard();
  return pieces.map((piece) => guard.push(piece)).join("") + guard.end();
}

test("text without the sentinel passes as it is, with a newline at its end", () => {
  for (const text of ["", "a", "a\n", "\n\n", "EN\nEND\nEND_TUR\nEND_TUR", " END_TURN\n", "x END_TURN"]) {
    const expected = text === "" || text.endsWith("\n") ? text : `${text}\n`;
    assert.equal(guarded([text]), expected);
    assert.equal(guarded([...text]), expected);
  }
});

test("a line that begins with the sentinel gets a space in front, however it comes", () => {
  for (const text of ["END_TURN", "END_TURN\n", "a\nEND_TURN\nb", "END_TURN END_TURN\n", "END_TURNS\n"]) {
    const whole = guarded([text]);
    assert.doesNotMatch(whole, /^END_TURN/m);
    assert.equal(whole.replaceAll(/^ (?=END_TURN)/gm, ""), text.endsWith("\n") ? text : `${text}\n`);
    for (let at = 0; at <= text.length; at += 1) assert.equal(guarded([text.slice(0, at), text.slice(at)]), whole);
  }
});
