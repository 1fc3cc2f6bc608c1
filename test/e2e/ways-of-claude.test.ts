/** What claude can be told to do differently, with the default policy of the proxy: each reaches the API as it was asked. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { RecordedRequest } from "../../src/demo/recorded-request.ts";
import { ended, script, text, thinking, toolUse } from "../../src/demo/script.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { type RunningSession, runningSession } from "../helpers/running-session.ts";
import { betasOf, blocksIn, bodyOf, resultBlocksIn } from "../helpers/sent-requests.ts";

const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const pdf = Buffer.from(
  `%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj
trailer<</Size 4/Root 1 0 R>>
%%EOF
`,
).toString("base64");

let running: RunningSession;

before(async () => {
  running = await runningSession({
    script: script(
      [
        { when: /^think$/, replies: [[thinking("step by step"), text("thought")]] },
        { when: /^look at/, replies: [({ userText }) => read(userText), text("seen")] },
        // asked by claude in auto mode before it runs a command: above 50 blocks it
        { when: /Respond with <severity>N<\/severity> ONLY/, replies: [text("<severity>0</severity>")] },
      ],
      echo(),
    ),
  });
});
after(() => running[Symbol.asyncDispose]());

const read = (userText: string) => toolUse("Read", { file_path: userText.split(" ").at(-1) });

/** Says `line`; what it brought about. */
async function turn(line: string): Promise<{ answer: string; requests: readonly RecordedRequest[] }> {
  const before = running.api.requests.length;
  const { result, text: answer, error } = await running.say(line);
  assert.equal(result, "success", error?.message);
  return { answer, requests: running.api.requests.slice(before) };
}

/** Runs a second claude in the sandbox with these arguments of a shell, with the key of the first one. */
async function nested(args: string, environment = ""): Promise<{ answer: string; requests: RecordedRequest[] }> {
  const key = `$(tr '\\0' '\\n' < /proc/$CLAUDE_PID/environ | sed -n 's/^ANTHROPIC_API_KEY=//p')`;
  const command = `ANTHROPIC_API_KEY=${key} ${environment} "$CLAUDE_CODE_EXECPATH" -p ${args} < /dev/null 2>&1`;
  const { answer, requests } = await turn(`!bash ${command}`);
  const isFirstClaudes = (request: RecordedRequest) => JSON.stringify(request.body).includes("modal-sb sandbox");
  return { answer, requests: requests.filter((request) => !isFirstClaudes(request)) };
}

for (const effort of ["low", "medium", "high", "xhigh", "max"]) {
  test(`/effort ${effort} holds for the next turn`, async () => {
    assert.match((await turn(`/effort ${effort}`)).answer, new RegExp(`effort level to ${effort} `));
    const { answer, requests } = await turn("hello");
    assert.match(answer, /You said: hello$/);
    assert.equal(bodyOf(requests[0]).output_config?.effort, effort);
    assert.ok(betasOf(requests[0]).includes("effort-2025-11-24"));
  });
}

test("thinking comes back to the model with its signature", async () => {
  const first = await turn("think");
  assert.equal(first.answer, "thought");
  assert.equal(bodyOf(first.requests[0]).thinking?.type, "adaptive");
  const { requests } = await turn("and now");
  const thoughts = blocksIn(requests[0]).filter(({ type }) => type === "thinking");
  assert.deepEqual(thoughts, [
    { type: "thinking", thinking: "step by step", signature: Buffer.from("scripted").toString("base64") },
  ]);
});

test("thinking can have a budget", async () => {
  const { answer, requests } = await nested("hello --model claude-haiku-4-5", "MAX_THINKING_TOKENS=4000");
  assert.match(answer, /You said: hello/);
  const { type, budget_tokens } = bodyOf(requests[0]).thinking as { type: string; budget_tokens?: number };
  assert.deepEqual([type, budget_tokens], ["enabled", 4000]);
});

test("a context window of a million tokens is asked for, and used", async () => {
  await using long = await runningSession({
    changes: { model: "claude-opus-4-6[1m]" },
    script: script([{ when: /^fill/, replies: [ended({ inputTokens: 500_000 }, text("half full"))] }], echo()),
  });
  assert.equal((await long.say("fill it")).text, "half full");
  assert.equal((await long.say("go on")).text, "turn 2: You said: go on");
  assert.deepEqual(
    long.api.requests.map((request) => [
      bodyOf(request).model,
      betasOf(request).filter((beta) => beta.startsWith("context-1m")),
    ]),
    Array(2).fill(["claude-opus-4-6", ["context-1m-2025-08-07"]]),
  );
});

test("an image that the agent reads reaches the model", async () => {
  await turn(`!bash echo ${png} | base64 -d > /app/dot.png`);
  const { answer, requests } = await turn("look at /app/dot.png");
  assert.equal(answer, "seen");
  assert.deepEqual(resultBlocksIn(requests[1]).at(-1), {
    type: "image",
    source: { type: "base64", media_type: "image/png", data: png },
  });
});

test("a PDF that the agent reads reaches the model", async () => {
  await turn(`!bash echo ${pdf} | base64 -d > /app/page.pdf`);
  const { answer, requests } = await turn("look at /app/page.pdf");
  assert.equal(answer, "seen");
  assert.deepEqual(resultBlocksIn(requests[1]).at(-1), {
    type: "document",
    source: { type: "base64", media_type: "application/pdf", data: pdf },
  });
});

test("a nested claude gives structured output", async () => {
  const schema = { type: "object", properties: { colour: { type: "string" } }, required: ["colour"] };
  const { answer, requests } = await nested(
    `'!tool StructuredOutput {"colour":"green"}' --json-schema '${JSON.stringify(schema)}'`,
  );
  assert.equal(answer.trim(), '{"colour":"green"}');
  assert.ok(bodyOf(requests[0]).tools?.some(({ name }) => name === "StructuredOutput"));
});

function assertMode(request: RecordedRequest | undefined, mode: string): void {
  const [safeguard] = bodyOf(request).safeguards as { classifier_context?: { permission_mode?: string } }[];
  assert.equal(safeguard?.classifier_context?.permission_mode, mode);
  const betas = betasOf(request);
  for (const beta of ["afk-mode-2026-01-31", "dangerous-tool-use-2026-09-03"]) assert.ok(betas.includes(beta), beta);
}

test("a nested claude works in plan mode", async () => {
  const { answer, requests } = await nested("hello --permission-mode plan");
  assert.match(answer, /You said: hello/);
  assertMode(requests[0], "plan");
});

test("a nested claude in auto mode has a command judged by a model, and runs it", async () => {
  const { answer, requests } = await nested(
    "'!bash echo $((6 * 7)) > /tmp/answer; cat /tmp/answer' --permission-mode auto",
  );
  assert.match(answer, /^42$/m);
  assertMode(requests[0], "auto");
  const judged = requests.filter((request) => JSON.stringify(request.body).includes("<severity>N</severity> ONLY"));
  assert.notEqual(judged.length, 0);
});

test("fast mode, which costs more, is refused, and claude goes on without it", async () => {
  const { answer, requests } = await nested(`hello --settings '{"fastMode":true}'`);
  assert.match(answer, /You said: hello/);
  assert.doesNotMatch(answer, /error/i);
  assert.equal(requests.length, 1, "the API hears only of the second try");
  assert.ok(!betasOf(requests[0]).some((beta) => beta.startsWith("fast-mode")));
  assert.ok(!("speed" in bodyOf(requests[0])));
  const audit = await running.provider.peek(`${running.session.name}-audit`);
  const refused = readFileSync(join(audit?.hostPath ?? "", "audit.ndjson"), "utf8").match(
    /"reason":"input_not_allowed"/g,
  );
  assert.equal(refused?.length, 1, "in one round");
});
