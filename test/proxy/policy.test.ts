import assert from "node:assert/strict";
import { test } from "node:test";
import { anthropicRules, refusalOf } from "../../src/proxy/policy.ts";
import { raw, runningProxy, sandboxKey } from "./running-proxy.ts";

const allowed: [method: string, target: string][] = [
  ["POST", "/v1/messages"],
  ["POST", "/v1/messages?beta=true"],
  ["POST", "/v1/messages/count_tokens"],
  ["POST", "/v1/messages/count_tokens?beta=true"],
  ["GET", "/v1/models"],
  ["GET", "/v1/models?limit=20&after_id=claude-x"],
  ["GET", "/v1/models/claude-opus-5-5"],
];

const refused: [method: string, target: string, reason: string][] = [
  ["GET", "/v1/messages", "method_not_allowed"],
  ["DELETE", "/v1/models/claude-opus-5-5", "method_not_allowed"],
  ["POST", "/", "path_not_allowed"],
  ["POST", "/v1/messages/", "path_not_allowed"],
  ["POST", "//v1/messages", "path_not_allowed"],
  ["POST", "/v1//messages", "path_not_allowed"],
  ["POST", "/v1/./messages", "path_not_allowed"],
  ["POST", "/v1/models/../messages", "path_not_allowed"],
  ["GET", "/v1/models/..", "path_not_allowed"],
  ["GET", "/v1/models/.hidden", "path_not_allowed"],
  ["POST", "/v1/%6dessages", "path_not_allowed"],
  ["POST", "/v1/messages%2fbatches", "path_not_allowed"],
  ["POST", "/v1/messages/batches", "path_not_allowed"],
  ["POST", "/v1/files", "path_not_allowed"],
  ["GET", "/v1/organizations/me", "path_not_allowed"],
  ["POST", "/v1/messages?beta=true&x=y", "path_not_allowed"],
  ["POST", "/v1/messages?beta=false", "path_not_allowed"],
  ["GET", "/v1/models?limit=../../x", "path_not_allowed"],
  ["POST", "/v1/messages#x", "path_not_allowed"],
  ["POST", "/v1/messages\n", "path_not_allowed"],
  ["POST", "/V1/messages", "path_not_allowed"],
  ["POST", "http://evil.example/v1/messages", "path_not_allowed"],
  ["POST", "/v1/messages;x", "path_not_allowed"],
  ["POST", "/v1\\messages", "path_not_allowed"],
  ["POST", "*", "path_not_allowed"],
];

test("refusalOf() allows what clients of the Messages API need", () => {
  for (const [method, target] of allowed) {
    assert.equal(refusalOf(anthropicRules, method, target), undefined, `${method} ${target}`);
  }
});

test("refusalOf() refuses all else, and says what is allowed", () => {
  for (const [method, target, reason] of refused) {
    const refusal = refusalOf(anthropicRules, method, target);
    assert.equal(refusal?.reason, reason, `${method} ${target}`);
    assert.match(refusal?.message ?? "", /allowed are POST \/v1\/messages,/);
  }
});

test("a refused request is answered with 403 and reaches no upstream", async () => {
  await using proxy = await runningProxy();
  const answer = await proxy.send({ path: "/v1/files" });
  assert.deepEqual(
    [answer.status, answer.headers["x-modal-sb-reason"], answer.headers["x-should-retry"]],
    [403, "path_not_allowed", "false"],
  );
  assert.match(JSON.parse(answer.body).error.message, /allowed are/);
  assert.equal(proxy.arrived.length, 0);
});

const key = `x-api-key: ${sandboxKey}\r\n`;
const smuggled: Record<string, string> = {
  "length and chunks": `POST /v1/messages HTTP/1.1\r\nHost: x\r\n${key}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  "two lengths": `POST /v1/messages HTTP/1.1\r\nHost: x\r\n${key}Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}{}`,
  "a signed length": `POST /v1/messages HTTP/1.1\r\nHost: x\r\n${key}Content-Length: +4\r\n\r\n{}{}`,
  "an unknown coding": `POST /v1/messages HTTP/1.1\r\nHost: x\r\n${key}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
  "a space before the colon": `POST /v1/messages HTTP/1.1\r\nHost: x\r\n${key}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
  "a folded header": `POST /v1/messages HTTP/1.1\r\nHost: x\r\n${key}X-App: a\r\n b\r\nContent-Length: 0\r\n\r\n`,
  "a bare line feed": `POST /v1/messages HTTP/1.1\nHost: x\n${key}\n\n`,
  "a NUL in a header": `POST /v1/messages HTTP/1.1\r\nHost: x\r\n${key}X-App: a\0b\r\nContent-Length: 0\r\n\r\n`,
  CONNECT: `CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n${key}\r\n`,
  "another protocol": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "no HTTP at all": "\x16\x03\x01\x02\x00\x01",
};

for (const [name, bytes] of Object.entries(smuggled)) {
  test(`${name}: the connection ends, and nothing reaches the upstream`, async () => {
    await using proxy = await runningProxy();
    const answer = await raw(proxy.listenPath, bytes);
    assert.doesNotMatch(answer, /^HTTP\/1\.1 2/);
    assert.equal(proxy.arrived.length, 0);
  });
}

test("a target of another origin is refused and not fetched", async () => {
  await using proxy = await runningProxy();
  const target = `http://127.0.0.1:9/v1/messages`;
  const answer = await raw(proxy.listenPath, `POST ${target} HTTP/1.1\r\nHost: x\r\n${key}Content-Length: 0\r\n\r\n`);
  assert.match(answer, /^HTTP\/1\.1 403/);
});

test("an upgrade is not passed on", async () => {
  await using proxy = await runningProxy();
  await proxy.send({ headers: { "x-api-key": sandboxKey, connection: "upgrade", upgrade: "websocket" } });
  assert.equal(proxy.arrived.at(-1)?.headers.upgrade, undefined);
});

test("the second request on a refused connection is not answered", async () => {
  await using proxy = await runningProxy();
  const refusedOne = `POST /v1/files HTTP/1.1\r\nHost: x\r\n${key}Content-Length: 0\r\n\r\n`;
  const good = `POST /v1/messages HTTP/1.1\r\nHost: x\r\n${key}Content-Length: 2\r\n\r\n{}`;
  const answer = await raw(proxy.listenPath, refusedOne + good);
  assert.equal([...answer.matchAll(/HTTP\/1\.1 \d+/g)].length, 1);
});
