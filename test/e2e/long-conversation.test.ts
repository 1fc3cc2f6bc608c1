/** How a conversation goes on after it was compacted, refused or cut off, with the default policy of the proxy. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ended, refuse, type Script, script, text } from "../../src/demo/script.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { type RunningSession, runningSession } from "../helpers/running-session.ts";
import { betasOf, bodyOf } from "../helpers/sent-requests.ts";

/** claude sends it with requests that the user did not write, and after a refusal */
const fallbackCredit = "fallback-credit-2026-06-01";
const refused = ended(
  { stopReason: "refusal", stopDetails: { type: "refusal", category: "cyber", explanation: null } },
  text("Let me"),
);

/** Answers claude's request for a summary, and claude's request for a recap. */
const talk = (...rules: Parameters<typeof script>[0]): Script =>
  script(
    [
      { when: /<summary> block/, replies: [text("<analysis>short</analysis><summary>They like kumquats.</summary>")] },
      { when: /^The user stepped away/, replies: [text("We talked about kumquats.")] },
      ...rules,
    ],
    echo(),
  );

const shownText = ({ events }: RunningSession) =>
  events.map((event) => (event.type === "text_delta" ? event.text : "")).join("");
const statuses = ({ events }: RunningSession, kind: string) =>
  events.flatMap((event) => (event.type === "status" && event.kind === kind ? [event.message] : []));
const conversationIn = (request: Parameters<typeof bodyOf>[0]) => JSON.stringify(bodyOf(request).messages);

/** The conversation was compacted by request number `index`, and its summary stands for what was said before. */
async function assertCompacted(running: RunningSession, index: number): Promise<void> {
  const { api } = running;
  assert.ok(betasOf(api.requests[index]).includes(fallbackCredit));
  assert.match(conversationIn(api.requests[index]), /my name is Ada.*<summary> block/);
  assert.deepEqual(statuses(running, "compacting"), [
    "The conversation is being compacted",
    "The conversation was compacted",
  ]);
  const { result, text } = await running.say("what next");
  assert.deepEqual([result, text.replace(/^turn \d+: /, "")], ["success", "You said: what next"]);
  assert.match(conversationIn(api.requests.at(-1)), /They like kumquats.*what next/);
  assert.doesNotMatch(conversationIn(api.requests.at(-1)), /my name is Ada/);
}

test("/compact replaces the conversation with its summary, and the next turn goes on", async () => {
  await using running = await runningSession({ script: talk() });
  await running.say("my name is Ada");
  assert.equal((await running.say("/compact")).result, "success");
  assert.equal(running.api.requests.length, 2);
  await assertCompacted(running, 1);
});

test("a conversation that fills the context window is compacted before the next turn", async () => {
  await using running = await runningSession({
    script: talk({ when: /^fill/, replies: [ended({ inputTokens: 985_000 }, text("nearly full"))] }),
  });
  await running.say("my name is Ada");
  assert.equal((await running.say("fill it")).text, "nearly full");
  assert.equal((await running.say("go on")).result, "success");
  assert.equal(running.api.requests.length, 4);
  await assertCompacted(running, 2);
});

test("a conversation that the API finds too long is compacted, and the turn goes on", async () => {
  let isFirst = true;
  const tooLong: Script = (request) => {
    if (!isFirst) return echo()(request);
    isFirst = false;
    return refuse(400, { message: "prompt is too long: 1200000 tokens > 1000000 maximum" });
  };
  await using running = await runningSession({ script: talk({ when: /^my question/, replies: [tooLong] }) });
  await running.say("my name is Ada");
  const { result, text } = await running.say("my question");
  assert.deepEqual([result, text.replace(/^turn \d+: /, "")], ["success", "You said: my question"]);
  assert.match(conversationIn(running.api.requests[1]), /my question/);
  assert.ok(betasOf(running.api.requests[2]).includes(fallbackCredit));
  assert.equal(statuses(running, "compacting").length, 2);
  assert.equal((await running.say("what next")).result, "success");
  assert.match(conversationIn(running.api.requests.at(-1)), /They like kumquats/);
});

test("/recap says what the conversation was about, and the next turn goes on", async () => {
  await using running = await runningSession({ script: talk() });
  await running.say("my name is Ada");
  const { result, text } = await running.say("/recap");
  assert.deepEqual([result, text], ["success", "We talked about kumquats."]);
  assert.ok(betasOf(running.api.requests[1]).includes(fallbackCredit));
  assert.equal((await running.say("what next")).result, "success");
  assert.match(conversationIn(running.api.requests.at(-1)), /my name is Ada.*what next/);
});

test("after a refusal the model is asked once more, and the next turn goes on", async () => {
  await using running = await runningSession({
    script: talk({ when: /^forbidden/, replies: [refused, text("Something else, then.")] }),
  });
  const { result, text: answer } = await running.say("forbidden");
  assert.deepEqual([result, answer], ["success", "Something else, then."]);
  assert.match(conversationIn(running.api.requests[1]), /Let me.*stopped by a safety classifier/);
  assert.deepEqual(
    running.api.requests.map((request) => betasOf(request).includes(fallbackCredit)),
    [false, true],
  );
  assert.match(statuses(running, "notice").join(), /safeguards stopped the response/);
  assert.match((await running.say("what next")).text, /You said: what next$/);
  assert.ok(betasOf(running.api.requests.at(-1)).includes(fallbackCredit));
});

test("after a second refusal another model answers, and the user is told which", async () => {
  const original = "claude-opus-5-5";
  const orElse: Script = ({ model }) => (model === original ? refused : text(`${model} answers`));
  await using running = await runningSession({ script: talk({ when: /^forbidden/, replies: [refused, orElse] }) });
  const { result, text: answer } = await running.say("forbidden");
  const models = running.api.requests.map((request) => bodyOf(request).model);
  const other = models.at(-1);
  assert.deepEqual(models.slice(0, -1), [original, original]);
  assert.notEqual(other, original);
  assert.deepEqual([result, answer], ["success", `${other} answers`]);
  assert.deepEqual(statuses(running, "model"), [`${original} refused; ${other} answers from now on`]);
  assert.match((await running.say("what next")).text, /You said: what next$/);
  assert.equal(bodyOf(running.api.requests.at(-1)).model, other);
});

test("a request that every model refuses ends the turn with an error, and the next turn goes on", async () => {
  await using running = await runningSession({
    script: talk({ when: /^forbidden/, replies: [refused, refused] }),
  });
  const { result, error } = await running.say("forbidden");
  assert.equal(result, "error");
  assert.match(error?.message ?? "", /safeguards flagged this message/);
  assert.match((await running.say("what next")).text, /You said: what next$/);
});

for (const stopReason of ["max_tokens", "model_context_window_exceeded"] as const) {
  test(`an answer that ends with ${stopReason} goes on in the same turn`, async () => {
    await using running = await runningSession({
      script: talk({ when: /^tell/, replies: [ended({ stopReason }, text("First half,")), text(" second half.")] }),
    });
    const { result, text: answer } = await running.say("tell me a story");
    assert.deepEqual([result, answer], ["success", " second half."]);
    assert.equal(shownText(running), "First half, second half.");
    assert.match(conversationIn(running.api.requests[1]), /First half,.*Output token limit hit/);
    assert.match((await running.say("what next")).text, /You said: what next$/);
  });
}

test("an answer that never ends within max_tokens ends the turn with an error, and the next turn goes on", async () => {
  const half = ended({ stopReason: "max_tokens" }, text("and so on "));
  const endless: Script = (request) => (/^tell/.test(request.userText) ? half : echo()(request));
  await using running = await runningSession({ script: endless });
  const { result, error } = await running.say("tell me a story");
  assert.equal(result, "error");
  assert.match(error?.message ?? "", /exceeded the \d+ output token maximum/);
  assert.match((await running.say("what next")).text, /You said: what next$/);
});

test("an answer that ends with pause_turn ends the turn, and the next one sends it back", async () => {
  await using running = await runningSession({
    script: talk({ when: /^tell/, replies: [ended({ stopReason: "pause_turn" }, text("First half,"))] }),
  });
  const { result, text: answer } = await running.say("tell me a story");
  assert.deepEqual([result, answer], ["success", "First half,"]);
  const transcript = await running.say(`!bash grep -rho '"stop_reason":"pause_turn"' "$CLAUDE_CONFIG_DIR/projects"`);
  assert.match(transcript.text, /pause_turn/, "claude took note of it");
  assert.match((await running.say("go on")).text, /You said: go on$/);
  const said = bodyOf(running.api.requests.at(-1)).messages.filter(({ role }) => role === "assistant");
  assert.match(JSON.stringify(said[0]), /First half,/);
});
