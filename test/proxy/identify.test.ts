import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { runningProxy, sandboxId, sandboxKey, smallBody, token } from "./running-proxy.ts";

const basic = (pair: string) => `Basic ${Buffer.from(pair).toString("base64")}`;

test("the sandbox key is taken in each place where clients put a key, and the real one put in its stead", async () => {
  await using proxy = await runningProxy();
  for (const headers of [
    { "x-api-key": sandboxKey },
    { authorization: `Bearer ${sandboxKey}` },
    { authorization: basic(`x:${sandboxKey}`) },
    { "x-api-key": sandboxKey, authorization: `Bearer ${sandboxKey}` },
  ]) {
    assert.equal((await proxy.send({ headers })).status, 200);
    const arrived = proxy.arrived.at(-1);
    assert.deepEqual([arrived?.headers["x-api-key"], arrived?.headers.authorization], [proxy.key, undefined]);
  }
});

test("a token is carried as a bearer token", async () => {
  await using proxy = await runningProxy({ credential: "ANTHROPIC_AUTH_TOKEN" });
  await proxy.send({});
  const arrived = proxy.arrived.at(-1);
  assert.deepEqual([arrived?.headers["x-api-key"], arrived?.headers.authorization], [undefined, `Bearer ${proxy.key}`]);
});

test("a bad key, or two that differ: refused alike, and nothing reaches the upstream", async () => {
  await using proxy = await runningProxy();
  const bad: Record<string, string>[] = [
    { "x-api-key": "" },
    { "x-api-key": sandboxId },
    { "x-api-key": `${sandboxId}.` },
    { "x-api-key": `${sandboxId}.${token}x` },
    { "x-api-key": `sb-ffffffffffffffff.${token}` },
    { "x-api-key": `${sandboxKey}, ${sandboxKey}` },
    { "x-api-key": sandboxKey, authorization: "Bearer other.0123456789abcdef" },
    { authorization: sandboxKey },
    { authorization: `Digest ${sandboxKey}` },
    { authorization: basic(sandboxId) },
    { "x-api-key": proxy.key },
  ];
  const bodies = new Set<string>();
  for (const headers of bad) {
    const answer = await proxy.send({ headers });
    assert.equal(answer.status, 406, JSON.stringify(headers));
    assert.equal(answer.headers["x-should-retry"], "false");
    assert.equal(answer.headers["x-modal-sb-reason"], "sandbox_key_refused");
    bodies.add(answer.body);
  }
  assert.equal(bodies.size, 1, "the answer does not tell why");
  assert.equal(JSON.parse([...bodies][0] ?? "").error.type, "authentication_error");
  assert.equal(proxy.arrived.length, 0);
});

test("a key that is missing is said to be missing", async () => {
  await using proxy = await runningProxy();
  for (const headers of [{}, { cookie: `x-api-key=${sandboxKey}` }]) {
    const answer = await proxy.send({ headers });
    assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [406, "sandbox_key_missing"]);
    assert.match(JSON.parse(answer.body).error.message, /has no sandbox key/);
  }
  assert.equal(proxy.arrived.length, 0);
});

test("a grant that has expired or was revoked is refused", async () => {
  await using expired = await runningProxy({ expiresAt: Date.now() - 1 });
  assert.equal((await expired.send({})).status, 406);
  await using revoked = await runningProxy();
  assert.equal((await revoked.send({})).status, 200);
  await revoked.control({ id: 1, op: "revoke", sandboxId });
  assert.equal((await revoked.send({})).status, 406);
  await using emptied = await runningProxy();
  await emptied.control({ id: 1, op: "revoke_all" });
  assert.equal((await emptied.send({})).status, 406);
});

test("a grant that is revoked while a body comes opens nothing more", async () => {
  await using proxy = await runningProxy({ grant: { limits: { concurrentRequests: 1 } } });
  const slow = connect(proxy.listenPath);
  const head = `POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: ${sandboxKey}\r\ncontent-type: application/json\r\n`;
  slow.write(`${head}content-length: ${smallBody.length}\r\n\r\n${smallBody.slice(0, -1)}`);
  // another one finds no place as soon as the slow one has been let in
  while ((await proxy.send({})).status !== 429);
  const before = proxy.arrived.length;
  await proxy.control({ id: 1, op: "revoke", sandboxId });
  const answered = once(slow, "data");
  slow.write(smallBody.slice(-1));
  assert.match(String((await answered)[0]), /^HTTP\/1\.1 406 /);
  slow.destroy();
  assert.equal(proxy.arrived.length, before);
});

test("a grant for another upstream does not open this one", async () => {
  await using proxy = await runningProxy();
  const tokenHash = createHash("sha256").update(token).digest("hex");
  await proxy.control({
    id: 2,
    op: "grant",
    sandboxId,
    tokenHash,
    expiresAt: Date.now() + 3_600_000,
    upstreams: { github: { repositories: {} } },
  });
  const answer = await proxy.send({});
  assert.deepEqual([answer.status, answer.headers["x-modal-sb-reason"]], [406, "upstream_not_granted"]);
});
