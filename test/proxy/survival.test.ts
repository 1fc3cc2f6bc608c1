/** What the proxy must survive: slow and dead sides, a flood, an end in the middle, a certificate that is not the API's. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { credentialForms } from "../../src/credential-forms.ts";
import { testKey } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { sse } from "./metering-corpus.ts";
import { messageBody, type RunningProxy, runningProxy, sandboxId, sandboxKey, smallBody } from "./running-proxy.ts";

const events = { "content-type": "text/event-stream" };

async function untilAudited(proxy: RunningProxy, count: number): Promise<Record<string, unknown>[]> {
  for (;;) {
    const lines = await proxy.audit();
    if (lines.length >= count) return lines;
    await delay(5);
  }
}

test("an upstream whose certificate is not trusted gets no byte of the request", async () => {
  await using folder = await temporaryFolder();
  const [keyPath, certPath] = [join(folder.path, "key.pem"), join(folder.path, "cert.pem")];
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const files = ["-keyout", keyPath, "-out", certPath];
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", ...subject, ...files], {
    stdio: "ignore",
  });
  let requests = 0;
  const server = createServer({ key: readFileSync(keyPath), cert: readFileSync(certPath) }, () => {
    requests += 1;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  await using proxy = await runningProxy({ origin: `https://127.0.0.1:${(server.address() as AddressInfo).port}` });
  const answer = await proxy.send({});
  assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [502, "upstream_unreachable"]);
  assert.match(answer.body, /DEPTH_ZERO_SELF_SIGNED_CERT/);
  assert.equal(requests, 0);
  server.close();
});

test("an upstream that never answers is given up", async () => {
  await using proxy = await runningProxy({ handler: () => {}, timeouts: { silenceMs: 50 } });
  const answer = await proxy.send({});
  assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [502, "upstream_unreachable"]);
});

test("an upstream that falls silent in the middle leaves a broken stream", async () => {
  // until the machine is fast enough for the answer to begin in time
  for (let [silenceMs, hasBegun] = [50, false]; !hasBegun; silenceMs *= 2) {
    await using proxy = await runningProxy({
      handler: (_incoming, response) => response.writeHead(200, events).write("data: x\n\n"),
      timeouts: { silenceMs },
    });
    const answer = await proxy.open({});
    hasBegun = answer.statusCode === 200;
    if (!hasBegun) continue;
    await assert.rejects(text(answer), /aborted/);
    assert.equal((await untilAudited(proxy, 1))[0]?.["reason"], "upstream_gone");
  }
});

test("a client that does not finish its headers is cut off", async () => {
  await using proxy = await runningProxy({ timeouts: { headersMs: 50 } });
  for (const beginning of ["", "POST /v1/messages HTTP/1.1\r\nhost: x\r\n"]) {
    const socket = connect(proxy.listenPath);
    socket.on("error", () => {});
    socket.resume();
    socket.write(beginning);
    await once(socket, "close");
  }
  assert.equal(proxy.arrived.length, 0);
});

test("a client that does not finish its body is cut off", async () => {
  await using proxy = await runningProxy({ timeouts: { bodyMs: 50 } });
  const socket = connect(proxy.listenPath);
  socket.write(`POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: ${sandboxKey}\r\ncontent-length: 50\r\n\r\n{"mo`);
  assert.match(await text(socket), /^HTTP\/1\.1 400 [\s\S]*the body did not come within/);
  assert.equal(proxy.arrived.length, 0);
});

test("a client that stops reading is given up, and so is its request", async () => {
  const left = Promise.withResolvers<void>();
  await using proxy = await runningProxy({
    handler: (_incoming, response) => {
      response.writeHead(200, events);
      response.write(Buffer.alloc(32 * 1024 * 1024, "x"));
      response.once("close", left.resolve);
    },
    timeouts: { stalledMs: 50 },
  });
  const answer = await proxy.open({});
  answer.pause();
  answer.on("error", () => {});
  await left.promise;
  assert.equal((await untilAudited(proxy, 1))[0]?.["reason"], "client_stalled");
});

test("a request may not run for ever", async () => {
  await using proxy = await runningProxy({
    handler: (_incoming, response) => response.writeHead(200, events).write("data: x\n\n"),
    timeouts: { totalMs: 50 },
  });
  // on a slow machine its time is up before the answer begins
  await assert.rejects(proxy.open({}).then(text), /aborted|socket hang up/);
  assert.equal((await untilAudited(proxy, 1))[0]?.["reason"], "too_long");
});

test("a body over 32 MB is refused as it comes, whatever it declares", async () => {
  await using proxy = await runningProxy();
  const declared = await proxy
    .open({ headers: { "x-api-key": sandboxKey, "content-length": "33554433" }, body: "" })
    .catch(() => undefined);
  declared?.destroy();
  const socket = connect(proxy.listenPath);
  socket.on("error", () => {});
  socket.write(
    `POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: ${sandboxKey}\r\ntransfer-encoding: chunked\r\n\r\n`,
  );
  const answered = once(socket, "data");
  const chunk = `100000\r\n${"x".repeat(0x100000)}\r\n`;
  for (let sent = 0; sent < 40 && socket.writable; sent += 1) socket.write(chunk);
  assert.match(String((await answered)[0]), /^HTTP\/1\.1 413 /);
  socket.destroy();
  assert.equal(proxy.arrived.length, 0);
});

test("a body of the API's own limit passes", async () => {
  let bytes = 0;
  await using proxy = await runningProxy({
    handler: async (incoming, response) => {
      for await (const chunk of incoming) bytes += chunk.length;
      response.end("{}");
    },
  });
  const body = messageBody({ system: "x".repeat(32 * 1024 * 1024 - smallBody.length - 12) });
  assert.equal((await proxy.send({ body })).status, 200);
  assert.equal(bytes, body.length);
});

test("a thousand streams at once all come whole, and all are counted", async () => {
  const open: ServerResponse[] = [];
  const allOpen = Promise.withResolvers<void>();
  await using proxy = await runningProxy({
    handler: (incoming, response) => {
      incoming.resume();
      response.writeHead(200, events).flushHeaders();
      if (open.push(response) === 1000) allOpen.resolve();
    },
  });
  const answers = Array.from({ length: 1000 }, async () => text(await proxy.open({})));
  await allOpen.promise;
  const [start, end] = [
    sse({ type: "message_start", message: { model: "claude-opus-5", usage: { input_tokens: 1, output_tokens: 1 } } }),
    sse({ type: "message_delta", usage: { output_tokens: 7 } }),
  ];
  for (const response of open) response.write(start);
  for (const response of open) response.end(end);
  const bodies = new Set(await Promise.all(answers));
  assert.deepEqual([...bodies], [start + end]);
  const usage = await proxy.control({ id: 1, op: "usage", account: sandboxId });
  assert.deepEqual([usage["requests"], usage["outputTokens"], usage["running"]], [1000, 7000, 0]);
});

test("a flood of refusals leaves a bounded log, which says how many it leaves out", async () => {
  await using proxy = await runningProxy();
  const ask = () => proxy.send({ headers: { "x-api-key": "sb-x.0123456789abcdefgh" } });
  for (let round = 0; round < 10; round += 1) await Promise.all(Array.from({ length: 50 }, ask));
  const before = await proxy.audit();
  assert.ok(before.length < 500, String(before.length));
  await delay(1100);
  await ask();
  const lines = await proxy.audit();
  const suppressed = lines.reduce((sum, line) => sum + Number(line["suppressed"] ?? 0), 0);
  assert.equal(lines.length + suppressed, 501);
});

test("pings come in silence, between whole events only", async () => {
  const halves = ["event: a\ndata: 1", "23\n\n"];
  await using proxy = await runningProxy({
    handler: async (_incoming, response) => {
      response.writeHead(200, events).write(halves[0]);
      // longer than some pings; a slow machine makes the test weaker, and never wrong
      await delay(100);
      response.write(halves[1]);
    },
    pingMs: 20,
  });
  const answer = await proxy.open({});
  let got = "";
  for await (const chunk of answer) {
    got += chunk;
    if (got.includes("ping")) break;
  }
  assert.match(got, /^event: a\ndata: 123\n\n(event: ping\ndata: \{"type":"ping"\}\n\n)+$/);
});

test("health is told without a key, and says nothing else", async () => {
  await using proxy = await runningProxy();
  const answer = await proxy.send({ method: "GET", path: "/healthz", headers: {} });
  assert.deepEqual([answer.status, answer.body], [200, '{"status":"ok"}']);
  assert.deepEqual(await proxy.audit(), []);
});

test("a polite stop refuses what is new, and lets what runs come to its end", async () => {
  const exchange = Promise.withResolvers<ServerResponse>();
  await using proxy = await runningProxy({
    handler: (_incoming, response) => {
      response.writeHead(200, events).flushHeaders();
      exchange.resolve(response);
    },
  });
  const idle = connect(proxy.listenPath);
  await once(idle, "connect");
  const answer = await proxy.open({});
  const response = await exchange.promise;
  const stopped = proxy.proxy.stop(60_000);
  const late = await proxy.send({});
  assert.deepEqual([late.status, late.headers["x-modal-sb-reason"]], [503, "stopping"]);
  assert.equal((await proxy.send({ method: "GET", path: "/healthz", headers: {} })).status, 503);
  response.end("data: last\n\n");
  assert.equal(await text(answer), "data: last\n\n");
  await stopped;
  idle.destroy();
});

test("a stop that has waited long enough breaks off what runs", async () => {
  await using proxy = await runningProxy({
    handler: (_incoming, response) => response.writeHead(200, events).write("data: x\n\n"),
  });
  const reading = text(await proxy.open({}));
  await Promise.all([proxy.proxy.stop(50), assert.rejects(reading, /aborted/)]);
  assert.equal((await proxy.audit())[0]?.["reason"], "stopped");
});

test("a credential is replaced while requests run; neither the old nor the new one shows", async () => {
  const waiting = Promise.withResolvers<{ incoming: IncomingMessage; response: ServerResponse }>();
  const keys: unknown[] = [];
  await using proxy = await runningProxy({
    handler: (incoming, response) => {
      keys.push(incoming.headers["x-api-key"]);
      if (keys.length === 1) waiting.resolve({ incoming, response });
      else response.end(String(keys));
    },
  });
  const first = proxy.send({});
  const { response } = await waiting.promise;
  const next = testKey();
  const rotated = await proxy.control({ id: 1, op: "rotate", name: "ANTHROPIC_API_KEY", value: next });
  assert.deepEqual(rotated, { id: 1, ok: true });
  const second = await proxy.send({});
  assert.deepEqual(keys, [proxy.key, next]);
  response.end(proxy.key);
  for (const answer of [await first, second]) {
    for (const key of [proxy.key, next])
      for (const form of credentialForms(key)) assert.ok(!answer.body.includes(form));
  }
  const bad = await proxy.control({ id: 2, op: "rotate", name: "ANTHROPIC_API_KEY", value: "two words" });
  assert.match(String(bad["error"]), /more than one word/);
  assert.ok(!JSON.stringify(bad).includes("two words"));
});
