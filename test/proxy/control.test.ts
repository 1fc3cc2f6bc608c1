import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { test } from "node:test";
import { controlOnce, raw, runningProxy, sandboxId } from "./running-proxy.ts";

test("a request that cannot be used is answered with its reason, and the socket goes on", async () => {
  await using proxy = await runningProxy();
  const grant = { id: 7, op: "grant", sandboxId, tokenHash: "0".repeat(64), expiresAt: 1, upstreams: {} };
  const bad: [line: string, id: unknown, error: RegExp][] = [
    ["not json", null, /JSON/],
    ["null", null, /./],
    ['{"id":1}', 1, /Unknown op/],
    ['{"id":2,"op":"reboot"}', 2, /Unknown op/],
    ['{"id":3,"op":"revoke"}', 3, /sandboxId/],
    [JSON.stringify({ ...grant, tokenHash: "short" }), 7, /tokenHash/],
    [JSON.stringify({ ...grant, expiresAt: "soon" }), 7, /expiresAt/],
    [JSON.stringify({ ...grant, upstreams: "anthropic" }), 7, /upstreams/],
    [JSON.stringify({ ...grant, sandboxId: "" }), 7, /sandboxId/],
  ];
  for (const [line, id, error] of bad) {
    const answer = await controlOnce(proxy.controlPath, line);
    assert.deepEqual([answer["id"], answer["ok"]], [id, false], line);
    assert.match(String(answer["error"]), error);
  }
  assert.equal((await proxy.control({ id: 8, op: "status" }))["grants"], 1);
});

test("a line without end is cut off", async () => {
  await using proxy = await runningProxy();
  assert.match(await raw(proxy.controlPath, "x".repeat(200_000)), /too long/);
  assert.equal((await proxy.control({ id: 9, op: "status" }))["ok"], true);
});

test("sandboxes may connect to the one socket, and only its owner to the other", async () => {
  await using proxy = await runningProxy();
  assert.equal(statSync(proxy.listenPath).mode & 0o777, 0o666);
  assert.equal(statSync(proxy.controlPath).mode & 0o777, 0o600);
});
