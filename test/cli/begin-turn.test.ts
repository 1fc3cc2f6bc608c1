/** `--detach -p`: the command may leave as soon as the agent works on its own message. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { beginTurn } from "../../src/cli/chat.ts";
import { exitCodes } from "../../src/errors.ts";
import { maxMessageBytes } from "../../src/protocol/limits.ts";
import { runningSession } from "../helpers/running-session.ts";

function recordingOutput() {
  const notes: string[] = [];
  const plain = (text: string) => text;
  const note = (text: string) => void notes.push(text);
  return { notes, output: { data: () => {}, note, dim: plain, red: plain, bold: plain, isTerminal: false } };
}

test("a message has begun when its own turn starts, not when another one does", async () => {
  await using running = await runningSession();
  const { output } = recordingOutput();
  const before = running.say("!hang");
  let hasBegun = false;
  const begun = beginTurn(running.session, "second", output, "text").then((exitCode) => {
    hasBegun = true;
    return exitCode;
  });
  await running.waitFor("text_delta");
  assert.equal(hasBegun, false);
  running.session.interrupt();
  assert.equal((await before).result, "interrupted");
  assert.equal(await begun, undefined);
});

test("a message whose turn ends before it starts gives the exit code, the reason and a hint", async () => {
  await using running = await runningSession();
  const { notes, output } = recordingOutput();
  assert.equal(await beginTurn(running.session, "x".repeat(maxMessageBytes), output, "text"), exitCodes.usage);
  assert.match(notes.join("\n"), /^The turn failed: The message is too long: .*\nhint: put the text in a file/);
});
