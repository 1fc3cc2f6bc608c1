import assert from "node:assert/strict";
import { test } from "node:test";
import {
  deltas,
  dieMidStream,
  ended,
  hang,
  refuse,
  type Script,
  text,
  thinking,
  toolUse,
} from "../../src/demo/script.ts";
import { type ScriptedApi, startScriptedApi } from "../../src/demo/scripted-api.ts";

const question = { model: "claude-opus-5-5", max_tokens: 100, messages: [{ role: "user", content: "hello" }] };
const headers = { "anthropic-version": "2023-06-01" };

type Json = Record<string, unknown>;

function ask(api: ScriptedApi, body: Json = {}, init: RequestInit = {}): Promise<Response> {
  const request = { method: "POST", headers, body: JSON.stringify({ ...question, stream: true, ...body }), ...init };
  return fetch(`${api.origin}/v1/messages?beta=true`, request);
}

/** The data of each server-sent event; its name must be the data's type. */
function eventsIn(stream: string): Json[] {
  const events = stream.split("\n\n").filter((event) => event !== "");
  return events.map((event) => {
    const [, name, json = ""] = /^event: (\S+)\ndata: (.*)$/.exec(event) ?? assert.fail(`an event: ${event}`);
    const data = JSON.parse(json);
    assert.equal(data.type, name);
    return data;
  });
}

async function eventsOf(script: Script): Promise<Json[]> {
  await using api = await startScriptedApi({ script });
  const response = await ask(api);
  assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  return eventsIn(await response.text());
}

/** What arrives of a body until it breaks. */
async function brokenBody(response: Response): Promise<string> {
  let received = "";
  const read = async () => {
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) received += chunk;
  };
  await assert.rejects(read(), /terminated/);
  return received;
}

test("a streamed text has the events of the API, in their order", async () => {
  const [start, ...events] = await eventsOf(() => text("hello you"));
  const { id, usage, ...message } = (start?.["message"] ?? {}) as Json;
  assert.match(String(id), /^msg_01[0-9a-f]{22}$/);
  assert.deepEqual(message, {
    type: "message",
    role: "assistant",
    model: "claude-opus-5-5",
    content: [],
    stop_reason: null,
    stop_sequence: null,
  });
  const counted = { input_tokens: 9, cache_creation_input_tokens: 18, cache_read_input_tokens: 0 };
  assert.deepEqual(usage, { ...counted, output_tokens: 1 });
  assert.deepEqual(events, [
    { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
    { type: "ping" },
    { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "hello" } },
    { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: " you" } },
    { type: "content_block_stop", index: 0 },
    {
      type: "message_delta",
      delta: { stop_reason: "end_turn", stop_sequence: null },
      usage: { ...counted, output_tokens: 9 },
    },
    { type: "message_stop" },
  ]);
});

test("a streamed tool use comes after its thinking, and its input in pieces of JSON", async () => {
  const input = { command: "echo 'ü'" };
  const events = await eventsOf(() => [thinking("hm"), toolUse("Bash", input)]);
  const starts = events
    .filter(({ type }) => type === "content_block_start")
    .map((event) => event["content_block"] as Json);
  assert.deepEqual(starts[0], { type: "thinking", thinking: "", signature: "" });
  const { id, ...tool } = starts[1] ?? {};
  assert.match(String(id), /^toolu_01/);
  assert.deepEqual(tool, { type: "tool_use", name: "Bash", input: {} });
  const pieces = events.map(({ delta }) => delta as Json | undefined);
  assert.deepEqual(
    pieces.filter((delta) => delta?.["type"] === "thinking_delta").map((delta) => delta?.["thinking"]),
    ["hm"],
  );
  assert.ok(pieces.some((delta) => delta?.["type"] === "signature_delta"));
  const json = pieces.flatMap((delta) => (delta?.["type"] === "input_json_delta" ? [delta["partial_json"]] : []));
  assert.equal(json.length, 2);
  assert.deepEqual(JSON.parse(json.join("")), input);
  assert.equal(pieces.find((delta) => "stop_reason" in (delta ?? {}))?.["stop_reason"], "tool_use");
});

test("without stream the same reply is one JSON message", async () => {
  await using api = await startScriptedApi({ script: () => [text("hello you"), toolUse("Bash", { command: "true" })] });
  const response = await ask(api, { stream: false });
  const { content, stop_reason, usage } = (await response.json()) as {
    content: Json[];
    stop_reason: string;
    usage: Json;
  };
  assert.deepEqual(content[0], { type: "text", text: "hello you" });
  assert.deepEqual([content[1]?.["name"], content[1]?.["input"]], ["Bash", { command: "true" }]);
  assert.equal(stop_reason, "tool_use");
  assert.ok(Number(usage["output_tokens"]) > 9);
});

test("ended() says how a message ends and how long the conversation is, streamed or not", async () => {
  const stopDetails = { type: "refusal", category: "cyber" };
  const script = () => ended({ stopReason: "refusal", stopDetails, inputTokens: 900_000 }, text("hello"));
  const end = { stop_reason: "refusal", stop_sequence: null, stop_details: stopDetails };
  const last = (await eventsOf(script)).at(-2);
  assert.deepEqual(last?.["delta"], end);
  await using api = await startScriptedApi({ script });
  const whole = (await (await ask(api, { stream: false })).json()) as Json;
  assert.deepEqual({ ...whole, ...end }, whole);
  for (const usage of [last?.["usage"], whole["usage"]] as Record<string, number>[]) {
    assert.equal((usage["input_tokens"] ?? 0) + (usage["cache_creation_input_tokens"] ?? 0), 900_000);
  }
});

test("after the first answer, all before the last message is read from the cache", async () => {
  await using api = await startScriptedApi({ script: () => text("ok") });
  const messages = [...question.messages, { role: "assistant", content: "ok" }, ...question.messages];
  const { usage } = (await (await ask(api, { stream: false, messages })).json()) as { usage: Json };
  assert.deepEqual([usage["input_tokens"], usage["cache_creation_input_tokens"]], [9, 0]);
  assert.ok(Number(usage["cache_read_input_tokens"]) > 18);
});

test("tokens can be counted and models listed", async () => {
  await using api = await startScriptedApi({ script: () => text("ok") });
  const { max_tokens: _, ...counted } = question;
  const request = { method: "POST", headers, body: JSON.stringify(counted) };
  const count = await fetch(`${api.origin}/v1/messages/count_tokens`, request);
  assert.deepEqual(await count.json(), { input_tokens: Math.ceil(JSON.stringify(counted).length / 4) });
  const models = (await (await fetch(`${api.origin}/v1/models`)).json()) as { data: Json[]; has_more: boolean };
  assert.equal(models.data[0]?.["type"], "model");
  assert.equal(models.has_more, false);
});

for (const [status, type] of [
  [400, "invalid_request_error"],
  [401, "authentication_error"],
  [403, "permission_error"],
  [404, "not_found_error"],
  [413, "request_too_large"],
  [429, "rate_limit_error"],
  [500, "api_error"],
  [503, "api_error"],
  [529, "overloaded_error"],
] as const) {
  test(`refuse(${status}) answers with ${type}`, async () => {
    await using api = await startScriptedApi({ script: () => refuse(status, { retryAfter: 3, message: "no" }) });
    const response = await ask(api);
    assert.equal(response.status, status);
    assert.equal(response.headers.get("retry-after"), "3");
    const request_id = response.headers.get("request-id");
    assert.match(request_id ?? "", /^req_01/);
    assert.deepEqual(await response.json(), { type: "error", error: { type, message: "no" }, request_id });
  });
}

test("the key is asked for in both of its headers, and the refused request is recorded", async () => {
  await using api = await startScriptedApi({ script: () => text("ok"), apiKey: "right" });
  const statusWith = async (shown: Record<string, string>) =>
    (await ask(api, {}, { headers: { ...headers, ...shown } })).status;
  assert.equal(await statusWith({}), 401);
  assert.equal(await statusWith({ "x-api-key": "wrong" }), 401);
  assert.equal(await statusWith({ authorization: "Bearer wrong" }), 401);
  assert.equal(await statusWith({ "x-api-key": "right" }), 200);
  assert.equal(await statusWith({ authorization: "Bearer right" }), 200);
  assert.equal(api.requests.length, 5);
});

test("what the real API would not take is refused with its reason", async () => {
  await using api = await startScriptedApi({ script: () => text("ok") });
  const complaint = async (response: Response) => {
    const { error } = (await response.json()) as { error: { message: string } };
    return `${response.status} ${error.message}`;
  };
  assert.equal(await complaint(await ask(api, {}, { headers: {} })), "400 anthropic-version: header is required");
  assert.equal(await complaint(await ask(api, {}, { body: "{" })), "400 The request body is not valid JSON");
  assert.equal(await complaint(await ask(api, { model: 1 })), "400 model: Field required");
  assert.equal(await complaint(await ask(api, { max_tokens: undefined })), "400 max_tokens: Field required");
  assert.equal(await complaint(await ask(api, { messages: "x" })), "400 messages: Field required");
  assert.equal(await complaint(await ask(api, { messages: [] })), "400 messages: at least one message is required");
  assert.equal(await complaint(await fetch(`${api.origin}/v1/messages`)), "405 Method Not Allowed");
  assert.equal(await complaint(await fetch(`${api.origin}/api/hello`)), "404 Not found");
  const huge = "x".repeat(32 * 1024 * 1024 + 1);
  assert.equal(await complaint(await ask(api, {}, { body: huge })), "413 Request exceeds the maximum size");
});

test("a script that throws is a 500 that clients do not repeat", async () => {
  await using api = await startScriptedApi({ script: () => assert.fail("a wrong script") });
  const response = await ask(api);
  assert.equal(response.status, 500);
  assert.equal(response.headers.get("x-should-retry"), "false");
  assert.match(await response.text(), /The script failed: .*a wrong script/);
});

test("dieMidStream() breaks off within the block after the whole ones", async () => {
  for (const [afterBlocks, expected] of [
    [0, ["one"]],
    [1, ["one", " two", "three"]],
    [2, ["one", " two", "three", " four"]],
  ] as const) {
    await using api = await startScriptedApi({
      script: () => dieMidStream({ afterBlocks }, text("one two"), text("three four")),
    });
    const events = eventsIn(await brokenBody(await ask(api)));
    const words = events.flatMap(({ delta }) => (delta === undefined ? [] : [(delta as Json)["text"]]));
    assert.deepEqual(words, expected);
    assert.equal(events.filter(({ type }) => type === "content_block_stop").length, afterBlocks);
    assert.equal(await api.requests[0]?.ended, "died");
  }
});

test("dieMidStream() breaks off after exactly as many bytes, streamed or not", async () => {
  await using api = await startScriptedApi({ script: () => dieMidStream({ afterBytes: 100 }, text("hello")) });
  const streamed = await brokenBody(await ask(api));
  assert.match(streamed, /^event: message_start\n/);
  assert.equal(streamed.length, 100);
  const whole = await brokenBody(await ask(api, { stream: false }));
  assert.match(whole, /^{"id":"msg_/);
  assert.equal(whole.length, 100);
});

test("dieMidStream() waits for the moment that the script names", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  await using api = await startScriptedApi({
    script: () => dieMidStream({ afterBlocks: 1, when: promise }, text("x")),
  });
  const reader = (await ask(api)).body?.getReader();
  await reader?.read();
  let ended = false;
  void api.requests[0]?.ended.then(() => {
    ended = true;
  });
  await fetch(`${api.origin}/v1/models`);
  assert.equal(ended, false);
  resolve();
  assert.equal(await api.requests[0]?.ended, "died");
});

test("dieMidStream() after no bytes leaves the request unanswered", async () => {
  await using api = await startScriptedApi({ script: () => dieMidStream({ afterBytes: 0 }) });
  await assert.rejects(ask(api), /fetch failed/);
  assert.equal(await api.requests[0]?.ended, "died");
});

test("hang() streams its blocks and then waits for the client to leave", async () => {
  await using api = await startScriptedApi({ script: () => hang(text("a b"), text("c")) });
  const leaving = new AbortController();
  const response = await ask(api, {}, { signal: leaving.signal });
  let received = "";
  await assert.rejects(async () => {
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      received += chunk;
      if (eventsIn(received).filter(({ type }) => type === "content_block_stop").length === 2) leaving.abort();
    }
  }, /abort/);
  assert.equal(eventsIn(received).at(-1)?.["type"], "content_block_stop");
  assert.equal(await api.requests[0]?.ended, "abandoned");
});

test("hang() without blocks does not even send a status", async () => {
  await using api = await startScriptedApi({ script: () => hang() });
  const leaving = new AbortController();
  const response = ask(api, {}, { signal: leaving.signal });
  const request = await api.waitForRequest(() => true);
  leaving.abort();
  await assert.rejects(response, /abort/);
  assert.equal(await request.ended, "abandoned");
});

test("a delay between pieces ends with its client", async () => {
  await using api = await startScriptedApi({ script: () => deltas(["now ", "in an hour"], 3_600_000) });
  const leaving = new AbortController();
  const response = await ask(api, {}, { signal: leaving.signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let received = "";
  while (!received.includes("now ")) received += (await reader?.read())?.value;
  leaving.abort();
  assert.equal(await api.requests[0]?.ended, "abandoned");
  assert.doesNotMatch(received, /in an hour/);
});

test("a client that leaves within a large answer is abandoned, and others are still served", async () => {
  const script: Script = ({ stream }) => (stream ? deltas(Array(20_000).fill("x".repeat(5000))) : text("ok"));
  await using api = await startScriptedApi({ script });
  const leaving = new AbortController();
  await (await ask(api, {}, { signal: leaving.signal })).body?.getReader().read();
  leaving.abort();
  assert.equal(await api.requests[0]?.ended, "abandoned");
  assert.equal((await ask(api, { stream: false })).status, 200);
});

test("a client that left while the script made up its mind harms nobody", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  await using api = await startScriptedApi({ script: () => promise.then(() => text("too late")) });
  const leaving = new AbortController();
  const response = ask(api, {}, { signal: leaving.signal });
  const request = await api.waitForRequest(() => true);
  leaving.abort();
  await assert.rejects(response, /abort/);
  assert.equal(await request.ended, "abandoned");
  resolve();
  assert.match(await (await ask(api)).text(), /late/);
});

test("requests are recorded as they were sent", async () => {
  await using api = await startScriptedApi({ script: () => text("ok") });
  const before = Date.now();
  await (await ask(api, { stream: false })).text();
  await (await fetch(`${api.origin}/v1/models`)).text();
  const [asked, listed] = api.requests;
  assert.deepEqual([asked?.method, asked?.path, asked?.query], ["POST", "/v1/messages", "beta=true"]);
  assert.deepEqual(asked?.body, { ...question, stream: false });
  assert.equal(asked?.headers["anthropic-version"], "2023-06-01");
  assert.ok(asked !== undefined && asked.at >= before && asked.at <= Date.now());
  assert.equal(await asked.ended, "answered");
  assert.deepEqual([listed?.method, listed?.path, listed?.query, listed?.body], ["GET", "/v1/models", "", undefined]);
});

test("only the last recordLimit requests are kept", async () => {
  await using api = await startScriptedApi({ script: () => text("ok"), recordLimit: 2 });
  for (const path of ["/a", "/b", "/c"]) await (await fetch(api.origin + path)).text();
  assert.deepEqual(
    api.requests.map(({ path }) => path),
    ["/b", "/c"],
  );
});

test("waitForRequest() finds past and future requests", async () => {
  await using api = await startScriptedApi({ script: () => text("ok") });
  const future = api.waitForRequest(({ path }) => path === "/b");
  await (await fetch(`${api.origin}/a`)).text();
  assert.equal((await api.waitForRequest(({ path }) => path === "/a")).path, "/a");
  await (await fetch(`${api.origin}/b`)).text();
  assert.equal(await future, api.requests[1]);
});

test("waitForRequest() rejects with what its predicate throws, and the request is served", async () => {
  await using api = await startScriptedApi({ script: () => text("ok") });
  const waiting = assert.rejects(
    api.waitForRequest(() => assert.fail("a wrong predicate")),
    /a wrong predicate/,
  );
  assert.equal((await ask(api)).status, 200);
  await waiting;
  await assert.rejects(
    api.waitForRequest(() => assert.fail("a wrong predicate")),
    /a wrong predicate/,
  );
});

test("waitForRequest() ends with its signal, and with the server", async () => {
  const api = await startScriptedApi({ script: () => text("ok") });
  const reason = new Error("enough");
  await assert.rejects(
    api.waitForRequest(() => true, AbortSignal.abort(reason)),
    reason,
  );
  const stop = new AbortController();
  const stopped = api.waitForRequest(() => true, stop.signal);
  stop.abort(reason);
  await assert.rejects(stopped, reason);
  const waiting = assert.rejects(
    api.waitForRequest(() => true),
    /The scripted API was stopped/,
  );
  await api[Symbol.asyncDispose]();
  await waiting;
});

test("disposal ends open connections and frees the port", async () => {
  const api = await startScriptedApi({ script: () => hang(text("a")) });
  const response = await ask(api);
  await api[Symbol.asyncDispose]();
  await brokenBody(response);
  await assert.rejects(fetch(api.origin), /fetch failed/);
  await using again = await startScriptedApi({ script: () => text("ok"), port: Number(new URL(api.origin).port) });
  assert.equal(again.origin, api.origin);
});
