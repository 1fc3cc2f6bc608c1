import assert from "node:assert/strict";
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { noUsage } from "../../src/proxy/cost.ts";
import { UsageMeter } from "../../src/proxy/usage-meter.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { type Handler, messageBody, runningProxy, sandboxId, sandboxKey } from "./running-proxy.ts";

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
    assert.deepEqual([meter.model, meter.usage], ["claude-x", { ...noUsage, ...counted }]);
  }
});

test("the meter reads the figures of a whole message, and lets be what it does not understand", () => {
  const message = JSON.stringify({ type: "message", model: "claude-y", usage: { input_tokens: 5, output_tokens: 6 } });
  const meter = new UsageMeter("application/json");
  meter.push(Buffer.from(message));
  meter.end();
  assert.deepEqual([meter.model, meter.usage.inputTokens, meter.usage.outputTokens], ["claude-y", 5, 6]);
  for (const [type, text] of [
    ["application/json", "not json"],
    ["application/json", "null"],
    ["text/event-stream", 'data: {"usage":\n\n'],
    ["text/event-stream", `data: {"usage": {"output_tokens": 1}, "x": "${"y".repeat(9_000_000)}"}\n`],
    ["text/event-stream", 'data: {"usage": {"output_tokens": "many"}}\n'],
    [undefined, "\u0000\u0001"],
  ] as const) {
    const other = new UsageMeter(type);
    other.push(Buffer.from(text));
    other.end();
    assert.equal(other.usage.outputTokens, 0);
  }
});

const answerStream: Handler = (_incoming, response) =>
  response.writeHead(200, { "content-type": "text/event-stream" }).end(stream);

test("each request is one audit line, with figures and without a key, a header or a body", async () => {
  await using proxy = await runningProxy({ handler: answerStream });
  const body = messageBody({ system: "secret words" });
  await proxy.send({ path: "/v1/messages?beta=true", body });
  await proxy.send({ path: "/v1/files" });
  await proxy.send({ headers: { "x-api-key": "sb-other.0123456789abcdefgh" } });
  const lines = await proxy.audit();
  const common = { upstream: "anthropic", method: "POST", requestId: null };
  const nothing = {
    ...{ model: null, inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 },
    ...{ cost: 0, bytesIn: 0, bytesOut: 0 },
  };
  assert.deepEqual(
    lines.map(({ time: _time, ms: _ms, ...line }) => line),
    [
      {
        ...{ ...common, sandboxId, path: "/v1/messages", model: "claude-x", ...counted },
        // an unknown model at the dearest price: 10 × 15, 25 × 75, 3 × 1.5 and 4 × 18.75 dollars a million
        cost: 0.0021045,
        ...{ bytesIn: body.length, bytesOut: stream.length, status: 200, reason: null },
      },
      { ...common, ...nothing, sandboxId, path: "/v1/files", status: 406, reason: "path_not_allowed" },
      { ...common, ...nothing, sandboxId: null, path: "/v1/messages", status: 406, reason: "sandbox_key_refused" },
    ],
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

test("usage adds up by account", async () => {
  await using proxy = await runningProxy({ handler: answerStream });
  await proxy.send({});
  await proxy.send({});
  await proxy.send({ path: "/v1/files" });
  const usage = await proxy.control({ id: 1, op: "usage", account: sandboxId });
  const figures = { inputTokens: 34, outputTokens: 50, cacheReadTokens: 6, cacheWriteTokens: 8, usd: 0.004209 };
  assert.deepEqual(usage, { id: 1, ok: true, requests: 3, refused: 1, ...figures, running: 0 });
  assert.equal((await proxy.control({ id: 2, op: "usage", account: "other" }))["requests"], 0);
});

test("when the audit log cannot be written, requests are told to wait, and reach no upstream", async () => {
  await using folder = await temporaryFolder();
  await symlink("/dev/full", join(folder.path, "audit.ndjson"));
  await using proxy = await runningProxy({ handler: answerStream, dataFolder: folder.path });
  assert.equal((await proxy.send({})).status, 200, "the first shows that the disk is full");
  const answer = await proxy.send({});
  assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [503, "audit_unwritable"]);
  assert.equal(answer.headers["retry-after"], "2");
  assert.equal(proxy.arrived.length, 1);
});
