/** The double's other side: what the real client makes of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { RecordedRequest } from "../../src/demo/recorded-request.ts";
import { deltas, dieMidStream, type Script, sequence, text, thinking, toolUse } from "../../src/demo/script.ts";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { Claude, deltaIn, type Turn } from "./claude.ts";

async function start(script: Script) {
  const stack = new AsyncDisposableStack();
  const api = stack.use(await startScriptedApi({ script, apiKey: "sb-test.key" }));
  const claude = stack.use(await Claude.start(api.origin));
  return { api, claude, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** The conversation that a request carries, one message a line. */
function carriedBy(request: RecordedRequest | undefined): string {
  const { messages = [] } = (request?.body ?? {}) as { messages?: readonly { role: string; content: unknown }[] };
  return messages.map(({ role, content }) => `${role}: ${JSON.stringify(content)}`).join("\n");
}

const retriesIn = (turn: Turn) =>
  turn.messages.filter((message) => message.type === "system" && message.subtype === "api_retry");

test("a text reply streams word by word and becomes the turn's result", async () => {
  await using run = await start(echo());
  const seen: string[] = [];
  const turn = await run.claude.say("good morning", (message) => {
    if (deltaIn(message) !== "") seen.push(deltaIn(message));
  });
  assert.deepEqual(seen, ["turn", " 1:", " You", " said:", " good", " morning"]);
  assert.equal(turn.text, "turn 1: You said: good morning");
  assert.equal(turn.result.is_error, false);
});

test("claude counts the usage that the reply carries", async () => {
  await using run = await start(echo());
  const { usage } = (await run.claude.say("hello")).result;
  assert.equal(usage.output_tokens, 13);
  assert.ok(usage.input_tokens > 0);
  assert.ok((usage.cache_creation_input_tokens ?? 0) > 5000, "the tools and the system prompt are in the cache");
  const second = (await run.claude.say("hello")).result.usage;
  assert.ok((second.cache_read_input_tokens ?? 0) > (usage.cache_creation_input_tokens ?? 0));
});

test("a Bash tool use is run, and its output comes back", async () => {
  await using run = await start(echo());
  const turn = await run.claude.say("!bash echo $((6 * 7)); pwd");
  assert.equal(turn.text, `42\n${run.claude.folder}`);
  assert.equal(run.api.requests.length, 2);
});

test("several blocks of one reply all arrive, and the results are matched to their tools", async () => {
  const replies = sequence(
    [
      thinking("two commands"),
      text("Both at once."),
      toolUse("Bash", { command: "echo fine" }),
      toolUse("Bash", { command: "echo bad; false" }),
    ],
    (request) => text(request.toolCalls.map(({ result }) => `${result?.isError} ${result?.text}`).join(" | ")),
  );
  await using run = await start(replies);
  const turn = await run.claude.say("go");
  assert.equal(turn.streamed, "Both at once.false fine | true Exit code 1\nbad");
  const blocks = turn.messages.flatMap((message) => (message.type === "assistant" ? message.message.content : []));
  assert.deepEqual(
    blocks.map(({ type }) => type),
    ["thinking", "text", "tool_use", "tool_use", "text"],
  );
});

test("the second turn's request carries the first turn", async () => {
  await using run = await start(echo());
  await run.claude.say("my name is Ada");
  const turn = await run.claude.say("who am I?");
  assert.equal(turn.text, "turn 2: You said: who am I?");
  const carried = carriedBy(run.api.requests[1]);
  assert.match(carried, /user: .*my name is Ada/);
  assert.match(carried, /assistant: .*turn 1: You said: my name is Ada/);
});

for (const [status, kind] of [
  [401, "authentication_failed"],
  [500, "server_error"],
  [529, "overloaded"],
] as const) {
  test(`a ${status} is retried and then ends the turn with an error`, async () => {
    await using run = await start(echo());
    const turn = await run.claude.say(`!error ${status}`);
    assert.equal(turn.result.is_error, true);
    assert.equal(turn.result.subtype === "success" && turn.result.api_error_status, status);
    assert.match(turn.text, new RegExp(String(status)));
    const retries = retriesIn(turn);
    assert.ok(retries.length > 0);
    for (const retry of retries) assert.deepEqual([retry.error_status, retry.error], [status, kind]);
    assert.equal((await run.claude.say("still there?")).text, "turn 2: You said: still there?");
  });
}

test("a 400 ends the turn with its own message, without retries", async () => {
  await using run = await start(echo());
  const turn = await run.claude.say("!error 400");
  assert.match(turn.text, /400 .*Scripted refusal with status 400/);
  assert.deepEqual(retriesIn(turn), []);
});

test("a 429 is retried no sooner than its retry-after", async () => {
  await using run = await start(echo());
  const turn = await run.claude.say("!error-once 429 2");
  assert.equal(turn.text, "recovered");
  const [retry, ...others] = retriesIn(turn);
  assert.deepEqual(others, []);
  assert.equal(retry?.error_status, 429);
  assert.ok(retry.retry_delay_ms >= 2000, `waits ${retry.retry_delay_ms} ms`);
});

test("a wrong key is a 401", async () => {
  await using api = await startScriptedApi({ script: echo(), apiKey: "another" });
  await using claude = await Claude.start(api.origin);
  const turn = await claude.say("hello");
  assert.match(turn.text, /Invalid API key/);
});

test("a stream that dies within its first block is repeated, after its text was seen", async () => {
  const seen = Promise.withResolvers<void>();
  let requests = 0;
  await using run = await start(() => {
    requests += 1;
    return requests === 1
      ? dieMidStream({ afterBlocks: 0, when: seen.promise }, text("lost words"))
      : text("whole words");
  });
  const turn = await run.claude.say("hello", (message) => {
    if (deltaIn(message) === "lost") seen.resolve();
  });
  assert.equal(turn.streamed, "lostwhole words");
  assert.equal(turn.text, "whole words");
  assert.equal(retriesIn(turn).length, 1);
  assert.equal(await run.api.requests[0]?.ended, "died");
});

test("a stream that dies after a whole block keeps the block and goes on in the same turn", async () => {
  const seen = Promise.withResolvers<void>();
  await using run = await start((request) => {
    if (request.step > 0) return text(`step ${request.step} of turn ${request.turnCount}`);
    return dieMidStream({ afterBlocks: 1, when: seen.promise }, text("kept"), text("lost words"));
  });
  const turn = await run.claude.say("hello", (message) => {
    if (deltaIn(message) === "lost") seen.resolve();
  });
  assert.equal(turn.streamed, "keptloststep 1 of turn 1");
  assert.match(carriedBy(run.api.requests[1]), /assistant: .*kept/);
  assert.doesNotMatch(carriedBy(run.api.requests[1]), /lost/);
});

test("echo's death happens once, with and without whole blocks", async () => {
  await using run = await start(echo());
  assert.equal((await run.claude.say("!die")).text, "recovered");
  assert.equal((await run.claude.say("!die 1")).text, "recovered");
  assert.equal((await run.claude.say("next")).text, "turn 3: You said: next");
  assert.equal(run.api.requests.length, 5);
});

test("a connection that dies before any answer is repeated", async () => {
  let requests = 0;
  await using run = await start(() => {
    requests += 1;
    return requests === 1 ? dieMidStream({ afterBytes: 0 }) : text("here I am");
  });
  const turn = await run.claude.say("hello");
  assert.equal(turn.text, "here I am");
  assert.equal(retriesIn(turn)[0]?.error_status, null);
});

test("a slow stream is seen piece by piece, while the next piece is an hour away", async () => {
  await using run = await start(() => deltas(["first ", "second"], 3_600_000));
  const turn = await run.claude.say("slowly", (message) => {
    if (deltaIn(message) === "first ") void run.claude.query.interrupt();
  });
  assert.equal(turn.streamed, "first ");
});

test("a slow stream arrives whole", async () => {
  await using run = await start(echo());
  assert.equal((await run.claude.say("!slow 3 20")).text, "tick 1\ntick 2\ntick 3\n");
});

test("an interrupted turn ends, the API sees its client leave, and the next turn is the second", async () => {
  await using run = await start(echo());
  const turn = await run.claude.say("!hang", (message) => {
    if (deltaIn(message) === "waiting") void run.claude.query.interrupt();
  });
  assert.equal(turn.result.is_error, true);
  assert.equal(await run.api.requests[0]?.ended, "abandoned");
  assert.equal((await run.claude.say("and now?")).text, "turn 2: You said: and now?");
});

test("a raw reply brings escape sequences to the client unchanged", async () => {
  await using run = await start(echo());
  assert.equal((await run.claude.say('!raw "\\u001b[2J\\u0007END_TURN"')).text, "\u001b[2J\u0007END_TURN");
});

test("a long reply arrives whole", async () => {
  await using run = await start(echo());
  assert.equal((await run.claude.say("!long 300007")).text.length, 300007);
});

test("a change of model is probed without a stream, and the next turn uses it", async () => {
  await using run = await start(echo());
  await run.claude.query.setModel("claude-haiku-4-5");
  assert.equal((await run.claude.say("hello")).text, "turn 1: You said: hello");
  const asked = run.api.requests.map(({ body }) => body as { model: string; stream?: boolean });
  assert.ok(
    asked.some(({ stream }) => stream !== true),
    "the probe",
  );
  assert.deepEqual([asked.at(-1)?.model, asked.at(-1)?.stream], ["claude-haiku-4-5", true]);
});

test("claude counts its context with the API's help", async () => {
  await using run = await start(echo());
  await run.claude.say("hello");
  const context = await run.claude.query.getContextUsage({ detail: "full" });
  assert.ok(context.totalTokens > 0);
  const counts = run.api.requests.filter(({ path }) => path === "/v1/messages/count_tokens");
  assert.ok(counts.length > 0);
  for (const { ended } of counts) assert.equal(await ended, "answered");
});
