/** The official TypeScript SDK of the Claude API, as it comes from npm, through the proxy. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import Anthropic, { APIConnectionError, APIError, APIUserAbortError } from "@anthropic-ai/sdk";
import { sse } from "./metering-corpus.ts";
import { type Handler, type RunningProxy, runningProxy, sandboxKey } from "./running-proxy.ts";

const message = {
  ...{ id: "msg_1", type: "message", role: "assistant", model: "claude-opus-5", stop_reason: "end_turn" },
  content: [{ type: "text", text: "hello" }],
  usage: { input_tokens: 5, output_tokens: 2 },
};
const request = { model: "claude-opus-5", max_tokens: 50, messages: [{ role: "user" as const, content: "hi" }] };

const api: Handler = async (incoming, response) => {
  let body = "";
  for await (const chunk of incoming) body += chunk;
  const json = (value: object) => {
    response.writeHead(200, { "content-type": "application/json", "request-id": "req_7" }).end(JSON.stringify(value));
  };
  const path = incoming.url?.split("?")[0];
  if (path === "/v1/models") return json({ data: [{ id: "claude-opus-5", type: "model" }], has_more: false });
  if (path === "/v1/messages/count_tokens") return json({ input_tokens: 9 });
  if (!body.includes('"stream":true')) return json(message);
  response
    .writeHead(200, { "content-type": "text/event-stream" })
    .end(
      sse(
        { type: "message_start", message: { ...message, content: [], stop_reason: null } },
        { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
        { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "hello" } },
        { type: "content_block_stop", index: 0 },
        { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 2 } },
        { type: "message_stop" },
      ),
    );
};

function clientOf(proxy: RunningProxy, how: "apiKey" | "authToken" = "apiKey", maxRetries = 2): Anthropic {
  const key = how === "apiKey" ? { apiKey: sandboxKey, authToken: null } : { apiKey: null, authToken: sandboxKey };
  return new Anthropic({ baseURL: proxy.origin, maxRetries, ...key });
}

for (const how of ["apiKey", "authToken"] as const) {
  test(`messages, streams, token counts and models, with the sandbox key as ${how}`, async () => {
    await using proxy = await runningProxy({ handler: api });
    const client = clientOf(proxy, how);
    const whole = await client.messages.create(request);
    assert.deepEqual([whole.content, whole._request_id], [message.content, "req_7"]);
    assert.equal(await client.messages.stream(request).finalText(), "hello");
    assert.equal(
      (await client.messages.countTokens({ model: "claude-opus-5", messages: request.messages })).input_tokens,
      9,
    );
    assert.deepEqual(
      (await client.models.list()).data.map(({ id }) => id),
      ["claude-opus-5"],
    );
    assert.ok(proxy.arrived.every(({ headers }) => headers["x-api-key"] === proxy.key && !headers.authorization));
  });
}

for (const status of [429, 500, 529]) {
  test(`the SDK tries again after ${status}, and the proxy does not`, async () => {
    let asked = 0;
    await using proxy = await runningProxy({
      handler: (incoming, response) => {
        asked += 1;
        if (asked > 1) api(incoming, response);
        else response.writeHead(status, { "retry-after-ms": "1", "content-type": "application/json" }).end("{}");
      },
    });
    assert.deepEqual((await clientOf(proxy).messages.create(request)).content, message.content);
    assert.equal(asked, 2);
    await using once = await runningProxy({
      handler: (_incoming, response) => response.writeHead(status, { "content-type": "application/json" }).end("{}"),
    });
    await assert.rejects(clientOf(once, "apiKey", 0).messages.create(request), { status });
    assert.equal(once.arrived.length, 1);
  });
}

test("a refusal by rule is an error that the SDK does not repeat, with the proxy's words", async () => {
  await using proxy = await runningProxy({ handler: api });
  const tools = [{ type: "web_fetch_20250910", name: "web_fetch" }] as never;
  await assert.rejects(clientOf(proxy).messages.create({ ...request, tools }), (error) => {
    assert.ok(error instanceof APIError);
    assert.equal(error.type, "permission_error");
    assert.match(error.message, /modal-sb proxy: not allowed: the tool web_fetch_20250910/);
    return true;
  });
  assert.deepEqual(
    (await proxy.audit()).map(({ reason }) => reason),
    ["feature_not_allowed"],
  );
});

test("the SDK's tool runner goes on without a thread, which is refused", async () => {
  await using proxy = await runningProxy({ handler: api });
  const runner = clientOf(proxy).beta.messages.toolRunner({ ...request, tools: [] });
  assert.deepEqual((await runner).content, message.content);
  assert.deepEqual(
    (await proxy.audit()).map(({ status, reason }) => [status, reason]),
    [
      [400, "input_not_allowed"],
      [200, null],
    ],
  );
});

test("an abort of the SDK closes the upstream's connection; a broken stream is an error of the SDK", async () => {
  const first = Promise.withResolvers<void>();
  await using proxy = await runningProxy({
    handler: async (_incoming, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(sse({ type: "message_start", message }));
      await once(response, "close");
      first.resolve();
    },
  });
  const stream = clientOf(proxy).messages.stream(request);
  stream.on("streamEvent", () => stream.abort());
  await assert.rejects(stream.finalMessage(), APIUserAbortError);
  await first.promise;
  await using dying = await runningProxy({
    handler: (_incoming, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(sse({ type: "message_start", message }), () => response.destroy());
    },
  });
  await assert.rejects(clientOf(dying).messages.stream(request).finalMessage(), (error) => {
    assert.ok(error instanceof APIConnectionError || error instanceof Error);
    assert.doesNotMatch(String(error), /aborted by the user/);
    return true;
  });
});
