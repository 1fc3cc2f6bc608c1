import assert from "node:assert/strict";
import { test } from "node:test";
import { UsageMeter } from "../../src/proxy/usage-meter.ts";
import { type Handler, runningProxy, sandboxId, sandboxKey } from "./running-proxy.ts";

const stream = [
  {
    type: "message_start",
    message: { model: "claude-x", usage: { input_tokens: 10, output_tokens: 1, cache_read_input_tokens: 3 } },
  },
  { type: "content_block_delta", delta: { type: "text_delta", text: '"usage" {"input_tokens": 999}' } },
  { type: "message_delta", usage: { output_tokens: 25, cache_creation_input_tokens: 4 } },
  { type: "message_stop" },
]
  .map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
  .join("");

const counted = { inputTokens: 10, outputTokens: 25, cacheReadTokens: 3, cacheWriteTokens: 4 };

test("the meter reads a stream's figures, however it is cut into chunks", () => {
  for (const size of [1, 7, 64, stream.length]) {
    const meter = new UsageMeter("text/event-stream; charset=utf-8");
    for (let at = 0; at < stream.length; at += size) meter.push(Buffer.from(stream.slice(at, at + size)));
    meter.end();
    assert.deepEqual([meter.model, meter.tokens], ["claude-x", counted]);
  }
});

test("the meter reads the figures of a whole message, and lets be what it does not understand", () => {
  const message = JSON.stringify({ type: "message", model: "claude-y", usage: { input_tokens: 5, output_tokens: 6 } });
  const meter = new UsageMeter("application/json");
  meter.push(Buffer.from(message));
  meter.end();
  assert.deepEqual([meter.model, meter.tokens.inputTokens, meter.tokens.outputTokens], ["claude-y", 5, 6]);
  for (const [type, text] of [
    ["application/json", "not json"],
    ["application/json", "null"],
    ["text/event-stream", 'data: {"usage":\n\n'],
    ["text/event-stream", `data: {"usage": {"output_tokens": 1}, "x": "${"y".repeat(3_000_000)}"}\n`],
    ["text/event-stream", 'data: {"usage": {"output_tokens": "many"}}\n'],
    [undefined, "\u0000\u0001"],
  ] as const) {
    const other = new UsageMeter(type);
    other.push(Buffer.from(text));
    other.end();
    assert.equal(other.tokens.outputTokens, 0);
  }
});

const answerStream: Handler = (_incoming, response) =>
  response.writeHead(200, { "content-type": "text/event-stream" }).end(stream);

test("each request is one audit line, with figures and without a key, a header or a body", async () => {
  await using proxy = await runningProxy({ handler: answerStream });
  await proxy.send({ path: "/v1/messages?beta=true", body: '{"secret":"words"}' });
  await proxy.send({ path: "/v1/files" });
  await proxy.send({ headers: { "x-api-key": "sb-other.0123456789abcdefgh" } });
  const lines = await proxy.audit();
  assert.deepEqual(
    lines.map(({ time: _time, ms: _ms, ...line }) => line),
    [
      {
        sandboxId,
        upstream: "anthropic",
        method: "POST",
        path: "/v1/messages",
        model: "claude-x",
        ...counted,
        bytesIn: 18,
        bytesOut: stream.length,
        status: 200,
        credentialRefused: undefined,
        reason: null,
      },
      { sandboxId, path: "/v1/files", status: 403, reason: "path_not_allowed" },
      { sandboxId: null, path: "/v1/messages", status: 403, reason: "sandbox_key_refused" },
    ].map((line) =>
      JSON.parse(
        JSON.stringify({
          upstream: "anthropic",
          method: "POST",
          model: null,
          inputTokens: 0,
          outputTokens: 0,
          cacheReadTokens: 0,
          cacheWriteTokens: 0,
          bytesIn: 0,
          bytesOut: 0,
          ...line,
        }),
      ),
    ),
  );
  const text = JSON.stringify(lines);
  for (const word of [proxy.key, sandboxKey, "words", "0123456789abcdefgh", "beta"])
    assert.ok(!text.includes(word), word);
});

test("a path with odd characters stays one line of JSON", async () => {
  await using proxy = await runningProxy();
  await proxy.send({ path: `/v1/${"x".repeat(500)}%0a"\\` });
  const [line] = await proxy.audit();
  assert.equal(String(line?.["path"]).length, 200);
});

test("usage adds up by sandbox", async () => {
  await using proxy = await runningProxy({ handler: answerStream });
  await proxy.send({});
  await proxy.send({});
  await proxy.send({ path: "/v1/files" });
  const usage = await proxy.control({ id: 1, op: "usage", sandboxId });
  assert.deepEqual(usage, {
    id: 1,
    ok: true,
    requests: 3,
    refused: 1,
    inputTokens: 20,
    outputTokens: 50,
    cacheReadTokens: 6,
    cacheWriteTokens: 8,
  });
  assert.equal((await proxy.control({ id: 2, op: "usage", sandboxId: "other" }))["requests"], 0);
});

test("when the audit log cannot be written, requests are told to wait, and reach no upstream", async () => {
  await using proxy = await runningProxy({ handler: answerStream, auditPath: "/dev/full" });
  assert.equal((await proxy.send({})).status, 200, "the first shows that the disk is full");
  const answer = await proxy.send({});
  assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [503, "audit_unwritable"]);
  assert.equal(answer.headers["retry-after"], "2");
  assert.equal(proxy.arrived.length, 1);
});
