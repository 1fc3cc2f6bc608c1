/** Both directions stream; whoever leaves, the other side learns of it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingMessage, request, type ServerResponse } from "node:http";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { customUpstream } from "../../src/proxy/upstreams/custom.ts";
import { messageBody, runningProxy, sandboxId, sandboxKey, smallBody } from "./running-proxy.ts";

const events = { "content-type": "text/event-stream" };

/** A handler, and the first exchange that it gets. */
function firstExchange() {
  const { promise, resolve } = Promise.withResolvers<{ incoming: IncomingMessage; response: ServerResponse }>();
  return { handler: (incoming: IncomingMessage, response: ServerResponse) => resolve({ incoming, response }), promise };
}

/** A proxy with one exchange under way, whose answer has begun. */
async function streaming() {
  const exchange = firstExchange();
  const proxy = await runningProxy({ handler: exchange.handler });
  const opening = proxy.open({});
  const { response } = await exchange.promise;
  response.writeHead(200, events).flushHeaders();
  const answer = await opening;
  return { proxy, response, answer, [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose]() };
}

async function nextChunk(answer: IncomingMessage): Promise<string> {
  const [chunk] = (await once(answer, "data")) as [Buffer];
  return chunk.toString();
}

test("each piece of an answer is there before the upstream sends the next", async () => {
  await using exchange = await streaming();
  const { response, answer } = exchange;
  for (const piece of ["data: one\n\n", "data: two\n\n", "data: three\n\n"]) {
    const arriving = nextChunk(answer);
    response.write(piece);
    assert.equal(await arriving, piece);
  }
  response.end();
  await once(answer, "end");
});

test("each piece of a request is there before the client sends the next", async () => {
  const exchange = firstExchange();
  const streamed = (origin: string) =>
    customUpstream({ name: "own", prefix: "/own", origin, allow: [{ methods: ["POST"], path: "/upload" }] });
  await using proxy = await runningProxy({
    handler: exchange.handler,
    upstreams: (origin) => [streamed(origin)],
    grant: { upstreams: { own: {} } },
  });
  const outgoing = request({
    socketPath: proxy.listenPath,
    method: "POST",
    path: "/own/upload",
    headers: { "x-api-key": sandboxKey },
  });
  outgoing.write("one");
  const { incoming, response } = await exchange.promise;
  assert.equal(await nextChunk(incoming), "one");
  const arriving = nextChunk(incoming);
  outgoing.write("two");
  assert.equal(await arriving, "two");
  outgoing.end();
  response.end("done");
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
  assert.equal(await text(answer), "done");
});

test("a slow reader slows the upstream: the proxy does not hold what it has not passed on", async () => {
  await using exchange = await streaming();
  const { response, answer } = exchange;
  answer.pause();
  const piece = Buffer.alloc(1024 * 1024, "x");
  let written = 0;
  // the client does not read: sooner or later the upstream must be told to wait, for good
  while (written < 200 && response.write(piece)) written += 1;
  assert.ok(written < 50, `${written} MiB went on`);
  assert.equal(response.writableNeedDrain, true);
  response.destroy();
});

test("a client that leaves is learned of by the upstream", async () => {
  await using exchange = await streaming();
  const { response, answer } = exchange;
  const left = once(response, "close");
  answer.destroy();
  await left;
});

test("a client that leaves before the answer began is learned of by the upstream", async () => {
  const exchange = firstExchange();
  await using proxy = await runningProxy({ handler: exchange.handler });
  const outgoing = request({
    socketPath: proxy.listenPath,
    method: "POST",
    path: "/v1/messages",
    headers: { "x-api-key": sandboxKey },
  });
  outgoing.on("error", () => {});
  outgoing.end(smallBody);
  const { response } = await exchange.promise;
  const left = once(response, "close");
  outgoing.destroy();
  await left;
});

test("an upstream that breaks off leaves the client a broken stream, and no clean end", async () => {
  await using exchange = await streaming();
  const { proxy, response, answer } = exchange;
  response.write("data: one\n\n");
  assert.equal(await nextChunk(answer), "data: one\n\n");
  const reading = text(answer);
  response.destroy();
  await assert.rejects(reading, /aborted/);
  assert.equal((await proxy.audit()).at(-1)?.["reason"], "upstream_gone");
});

for (const [name, end] of [
  ["revoked", () => ({ op: "revoke" })],
  ["expired", () => ({ op: "change", expiresAt: Date.now() + 100 })],
] as const) {
  test(`a grant that is ${name} ends the requests that run on it, on both sides`, async () => {
    await using exchange = await streaming();
    const { proxy, response, answer } = exchange;
    const left = once(response, "close");
    const reading = text(answer);
    assert.deepEqual(await proxy.control({ id: 3, sandboxId, ...end() }), { id: 3, ok: true });
    await assert.rejects(reading, /aborted/);
    await left;
  });
}

test("a redirect is neither followed nor passed on", async () => {
  await using proxy = await runningProxy({
    handler: (_incoming, response) => response.writeHead(307, { location: "http://127.0.0.1:9/" }).end(),
  });
  const answer = await proxy.send({});
  assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [502, "upstream_redirect"]);
  assert.equal(answer.headers.location, undefined);
  assert.equal(proxy.arrived.length, 1);
});

test("a compressed answer, which could hide a credential, is refused; none is asked for", async () => {
  await using proxy = await runningProxy({
    handler: (_incoming, response) => response.writeHead(200, { "content-encoding": "gzip" }).end("x"),
  });
  const answer = await proxy.send({ headers: { "x-api-key": sandboxKey, "accept-encoding": "gzip, br" } });
  assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [502, "upstream_encoded"]);
  assert.equal(proxy.arrived[0]?.headers["accept-encoding"], "identity");
});

test("an upstream that is down is said so, once", async () => {
  await using proxy = await runningProxy();
  await new Promise((resolve) => proxy.upstream.close(resolve));
  const answer = await proxy.send({});
  assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [502, "upstream_unreachable"]);
  assert.match(JSON.parse(answer.body).error.message, /127\.0\.0\.1 cannot be reached \(ECONNREFUSED\)/);
});

test("a failed request is not repeated", async () => {
  await using proxy = await runningProxy({ handler: (incoming) => incoming.socket.destroy() });
  assert.equal((await proxy.send({})).status, 502);
  assert.equal(proxy.arrived.length, 1);
});

test("errors of the upstream come through with status, body and the headers that clients need", async () => {
  const body = JSON.stringify({ type: "error", error: { type: "rate_limit_error", message: "slow down" } });
  await using proxy = await runningProxy({
    handler: (_incoming, response) =>
      response
        .writeHead(429, { "content-type": "application/json", "retry-after": "3", "request-id": "req_1" })
        .end(body),
  });
  const answer = await proxy.send({});
  assert.deepEqual([answer.status, answer.body], [429, body]);
  assert.deepEqual([answer.headers["retry-after"], answer.headers["request-id"]], ["3", "req_1"]);
  assert.equal(answer.headers["x-should-retry"], undefined);
});

test("a credential that the upstream refuses is not tried again, and the host is told", async () => {
  await using proxy = await runningProxy({
    handler: (_incoming, response) => response.writeHead(401, { "x-should-retry": "true" }).end("{}"),
  });
  assert.deepEqual((await proxy.control({ id: 4, op: "status" }))["credentialRefused"], []);
  assert.equal((await proxy.send({})).headers["x-should-retry"], "false", "said once");
  assert.deepEqual((await proxy.control({ id: 5, op: "status" }))["credentialRefused"], ["anthropic"]);
});

test("connections to the upstream are used again", async () => {
  const ports = new Set<number | undefined>();
  await using proxy = await runningProxy({
    handler: (incoming, response) => {
      ports.add(incoming.socket.remotePort);
      response.end("{}");
    },
  });
  for (let count = 0; count < 3; count += 1) await proxy.send({});
  assert.equal(ports.size, 1);
});

test("an answer before the end of the request is passed on, and the next request is understood", async () => {
  await using proxy = await runningProxy({
    handler: (incoming, response) => {
      if (Number(incoming.headers["content-length"]) > 1000) response.writeHead(413).end("too large");
      else response.end("small enough");
    },
  });
  const answer = await proxy.open({ body: messageBody({ system: "x".repeat(5_000_000) }) });
  assert.equal(answer.statusCode, 413);
  assert.equal(await text(answer), "too large");
  assert.equal((await proxy.send({})).body, "small enough");
});
