/** What the Messages API may be asked: models, output, and nothing that reaches out of the sandbox unless it is allowed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AnthropicGrant } from "../../src/proxy/grant.ts";
import { plain, reachingOut } from "./anthropic-requests.ts";
import { messageBody, type RunningProxy, runningProxy, sandboxKey } from "./running-proxy.ts";

const grantFor = (anthropic: AnthropicGrant) => ({ upstreams: { anthropic } });

async function refused(proxy: RunningProxy, body: string, path = "/v1/messages"): Promise<[unknown, string]> {
  const before = proxy.arrived.length;
  const answer = await proxy.send({ body, path });
  assert.notEqual(answer.status, 200, answer.body);
  assert.equal(proxy.arrived.length, before, "nothing reaches the upstream");
  return [answer.headers["x-modal-sb-reason"], JSON.parse(answer.body).error.message];
}

test("a name that is allowed without its date is allowed with every date", async () => {
  await using proxy = await runningProxy({ grant: grantFor({ allow: ["beta:fast-mode", "tool:advisor"] }) });
  const tools = [{ type: "advisor_20260301", name: "x" }];
  const headers = { "x-api-key": sandboxKey, "anthropic-beta": "fast-mode-2026-02-01" };
  const answer = await proxy.send({ body: messageBody({ tools }), path: "/v1/messages", headers });
  assert.equal(answer.status, 200, answer.body);
});

for (const [name, changes, allowedBy] of reachingOut) {
  test(`${name} is refused, also to count its tokens, until the grant allows it`, async () => {
    await using proxy = await runningProxy();
    for (const path of ["/v1/messages", "/v1/messages/count_tokens"]) {
      const [reason, message] = await refused(proxy, messageBody(changes), path);
      const isField = Object.keys(changes).some((field) =>
        message.startsWith(`${field}: Extra inputs are not permitted.`),
      );
      assert.equal(reason, isField ? "input_not_allowed" : "feature_not_allowed");
      assert.ok(message.includes(`anthropicAllow: ["${allowedBy}"]`), message);
    }
    await using allowing = await runningProxy({ grant: grantFor({ allow: [allowedBy] }) });
    assert.equal((await allowing.send({ body: messageBody(changes) })).status, 200);
    await using other = await runningProxy({ grant: grantFor({ allow: ["something_else", "field:other*", "*"] }) });
    await refused(other, messageBody(changes));
  });
}

for (const [name, changes] of plain) {
  test(`${name} passes, byte for byte`, async () => {
    let arrived = "";
    await using proxy = await runningProxy({
      handler: async (incoming, response) => {
        for await (const chunk of incoming) arrived += chunk;
        response.end("{}");
      },
    });
    const body = ` ${messageBody(changes)}\n`;
    assert.equal((await proxy.send({ body })).status, 200);
    assert.equal(arrived, body);
  });
}

test("betas that only change the model or the stream pass; others are refused, in every spelling", async () => {
  await using proxy = await runningProxy();
  const ask = (beta: string) => proxy.send({ headers: { "x-api-key": sandboxKey, "anthropic-beta": beta } });
  for (const beta of [
    "effort-2025-11-24",
    "context-1m-2025-08-07, interleaved-thinking-2025-05-14",
    "fallback-credit-2026-06-01",
    "",
    " , ",
  ]) {
    assert.equal((await ask(beta)).status, 200, beta);
  }
  for (const beta of [
    "files-api-2025-04-14",
    "effort-2025-11-24,Files-API-2025-04-14",
    " web-fetch-2025-09-10 ",
    "mcp-client-2025-04-04",
    "code-execution-2025-08-25",
    "skills-2025-10-02",
    "message-batches-2024-09-24",
    "fast-mode-2026-02-01",
    "teleport-2027-01-01",
    "effort-2025-11-24;x",
    "__proto__",
    "constructor-2025-01-01",
  ]) {
    const answer = await ask(beta);
    assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [400, "input_not_allowed"], beta);
  }
  const grant = grantFor({ allow: ["files", "beta:teleport-*"] });
  await using allowing = await runningProxy({ grant });
  const headers = { "x-api-key": sandboxKey, "anthropic-beta": "files-api-2025-04-14,teleport-2027-01-01" };
  assert.equal((await allowing.send({ headers })).status, 200);
});

test("betas and fields are refused in the API's own words, all at once, and what the refusal names allows them", async () => {
  await using proxy = await runningProxy();
  const headers = { "x-api-key": sandboxKey, "anthropic-beta": "fast-mode-2026-02-01,teleport-2027-01-01" };
  const body = messageBody({ speed: "fast", inference_geo: "us" });
  const answer = await proxy.send({ headers, body });
  const { error } = JSON.parse(answer.body) as { error: { type: string; message: string; details: object } };
  assert.deepEqual(
    [answer.status, error.type, error.details],
    [400, "invalid_request_error", { error_code: "input_not_allowed" }],
  );
  assert.ok(
    error.message.startsWith(
      "Unexpected value(s) `fast-mode-2026-02-01`, `teleport-2027-01-01` for the `anthropic-beta` header. " +
        "speed: Extra inputs are not permitted. inference_geo: Extra inputs are not permitted. modal-sb proxy: ",
    ),
    error.message,
  );
  const allow = JSON.parse(/anthropicAllow: (\[.*\])/.exec(error.message)?.[1] ?? "") as string[];
  await using allowing = await runningProxy({ grant: grantFor({ allow }) });
  assert.equal((await allowing.send({ headers, body })).status, 200);
});

test("a thread is refused whatever is allowed, with the code at which its clients go on without", async () => {
  await using proxy = await runningProxy({ grant: grantFor({ allow: ["beta:*", "field:*"] }) });
  for (const [beta, changes] of [
    ["message-threads-2026-08-12", { thread: { type: "create" } }],
    ["message-threads-2026-08-12", {}],
    ["", { thread: { type: "continue", previous_message_id: "msg_1" } }],
  ] as const) {
    const headers = { "x-api-key": sandboxKey, "anthropic-beta": beta };
    const answer = await proxy.send({ headers, body: messageBody(changes) });
    assert.equal(answer.status, 400);
    assert.deepEqual(JSON.parse(answer.body).error.details, { error_code: "thread_unsupported_request" });
  }
  assert.equal(proxy.arrived.length, 0);
});

test("a request with more unknown names than anyone can read is refused in few words", async () => {
  await using proxy = await runningProxy();
  const many = Object.fromEntries(Array.from({ length: 200_000 }, (_, index) => [`field${index}`, 1]));
  const betas = Array.from({ length: 500 }, (_, index) => `beta${index}-2027-01-01`).join(",");
  const tools = Array.from({ length: 50_000 }, (_, index) => ({ type: `tool${index}_20270101` }));
  for (const [changes, beta] of [
    [many, ""],
    [{ tools }, ""],
    [{}, betas],
  ] as const) {
    const headers = { "x-api-key": sandboxKey, "anthropic-beta": beta };
    const answer = await proxy.send({ headers, body: messageBody(changes) });
    assert.ok(answer.status === 400 || answer.status === 406);
    assert.ok(answer.body.length < 10_000, `${answer.body.length} characters`);
  }
  assert.equal(proxy.arrived.length, 0);
});

test("a refusal says of each thing why, and names what can be allowed beside what cannot", async () => {
  await using proxy = await runningProxy();
  const body = messageBody({ speed: "fast", thread: { type: "create" }, teleport: 1 });
  const { message } = JSON.parse((await proxy.send({ body })).body).error as { message: string };
  assert.match(message, /the field speed \(it costs more than the budget counts\)/);
  assert.match(message, /the field thread \([^)]*; nothing allows it\)/);
  assert.match(message, /the field teleport \(it is not known to this proxy\)/);
  assert.match(message, /anthropicAllow: \["field:speed","field:teleport"\]$/);
});

test("a field that asks for nothing passes", async () => {
  await using proxy = await runningProxy();
  for (const changes of [
    { speed: "standard" },
    { speed: null },
    { thread: null },
    { tools: null },
    { container: null },
  ]) {
    assert.equal((await proxy.send({ body: messageBody(changes) })).status, 200, JSON.stringify(changes));
  }
  for (const changes of [{ speed: "Standard" }, { teleport: null }]) {
    assert.equal((await proxy.send({ body: messageBody(changes) })).status, 400, JSON.stringify(changes));
  }
});

test("only granted models, and no more output than granted", async () => {
  const grant = grantFor({ models: ["claude-opus-5", "claude-haiku-*"], maxOutputTokens: 1000 });
  await using proxy = await runningProxy({ grant });
  for (const model of ["claude-opus-5", "claude-haiku-4-5-20251001"]) {
    assert.equal((await proxy.send({ body: messageBody({ model, max_tokens: 1000 }) })).status, 200);
  }
  for (const model of ["claude-opus-5-5", "Claude-Opus-5", " claude-opus-5", "claude-opus-5[1m]"]) {
    await refused(proxy, messageBody({ model }));
  }
  assert.equal((await refused(proxy, messageBody({ max_tokens: 1001 })))[0], "output_limit");
});

const bad: [name: string, body: string | Buffer][] = [
  ["no JSON", "hello"],
  ["nothing", ""],
  ["an array", "[]"],
  ["null", "null"],
  ["no model", messageBody({ model: undefined })],
  ["a model that is no word", messageBody({ model: ["claude-opus-5"] })],
  ["a model with a space", messageBody({ model: "claude-opus-5 " })],
  ["a model twice", messageBody().replace("{", '{"model":"claude-haiku-4-5",')],
  ["a model twice, once escaped", messageBody().replace("{", '{"\\u006dodel":"claude-haiku-4-5",')],
  [
    "a tool's type twice",
    messageBody({ tools: [{ name: "x" }] }).replace('"name"', '"type":"web_fetch_20250910","type":"custom","name"'),
  ],
  ["no max_tokens", messageBody({ max_tokens: undefined })],
  ["max_tokens in words", messageBody({ max_tokens: "100" })],
  ["half a token", messageBody({ max_tokens: 0.5 })],
  ["less than no token", messageBody({ max_tokens: -1 })],
  ["endless tokens", messageBody().replace('"max_tokens":100', '"max_tokens":1e999')],
  ["a byte order mark", `\ufeff${messageBody()}`],
  ["UTF-16", Buffer.from(messageBody(), "utf16le")],
  ["invalid UTF-8", Buffer.concat([Buffer.from(messageBody().slice(0, -1)), Buffer.from([0x2c, 0x22, 0xff, 0x22])])],
  ["endless nesting", messageBody({ system: "X" }).replace('"X"', "[".repeat(100_000) + "]".repeat(100_000))],
  ["tools that are no list", messageBody({ tools: { type: "web_fetch_20250910" } })],
];

for (const [name, body] of bad) {
  test(`a body with ${name} is refused without a word of it`, async () => {
    await using proxy = await runningProxy({ grant: grantFor({ models: ["claude-haiku-4-5", "claude-opus-5"] }) });
    const answer = await proxy.send({ body: body as string });
    assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [400, "bad_request"], answer.body);
    assert.equal(proxy.arrived.length, 0);
  });
}

test("the paths of the API that are allowed, and those that are not", async () => {
  await using proxy = await runningProxy();
  const ask = async (method: string, path: string) => (await proxy.send({ method, path })).status;
  for (const [method, path] of [
    ["POST", "/v1/messages"],
    ["POST", "/v1/messages?beta=true"],
    ["POST", "/v1/messages/count_tokens?beta=true"],
    ["GET", "/v1/models"],
    ["GET", "/v1/models?limit=20&after_id=claude-x"],
    ["GET", "/v1/models?beta=true"],
    ["GET", "/v1/models?beta=true&limit=20"],
    ["GET", "/v1/models?after_id=claude-x&beta=true"],
    ["GET", "/v1/models/claude-opus-5"],
    ["GET", "/v1/models/claude-opus-5?beta=true"],
  ] as const) {
    assert.equal(await ask(method, path), 200, `${method} ${path}`);
  }
  for (const [method, path] of [
    ["GET", "/v1/messages"],
    ["PUT", "/v1/messages"],
    ["DELETE", "/v1/models/claude-opus-5"],
    ["OPTIONS", "/v1/messages"],
    ["TRACE", "/v1/messages"],
    ["POST", "/v1/messages/batches"],
    ["GET", "/v1/files"],
    ["POST", "/v1/complete"],
    ["GET", "/v1/organizations/me"],
    ["GET", "/api/hello"],
    ["POST", "/v1/messages?api_key=x"],
    ["POST", "/v1/messages?beta=true&beta=true"],
    ["GET", "/v1/models?beta=false"],
    ["GET", "/v1/models?beta=true&limit=1&limit=2&limit=3&limit=4"],
    ["GET", "/v1/models/claude-opus-5?limit=1"],
    ["GET", "/"],
  ] as const) {
    assert.equal(await ask(method, path), 406, `${method} ${path}`);
  }
  assert.equal(proxy.arrived.length, 10);
});
