/** Limits hold, also for requests that run beside each other, for those that leave, and across a restart. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import type { Limits } from "../../src/proxy/grant.ts";
import { Pace } from "../../src/proxy/pace.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import {
  type Handler,
  messageBody,
  type RunningProxy,
  runningProxy,
  sandboxId,
  sandboxKey,
  tokenHash,
} from "./running-proxy.ts";

/** 100 tokens out at 25 dollars a million */
const outputUsd = 0.0025;
const inputUsd = (Math.ceil(messageBody().length / 3) * 5) / 1e6;
const requestUsd = outputUsd + inputUsd;

/** An answer that used so much. */
const using =
  (output_tokens: number): Handler =>
  (_incoming, response) => {
    const usage = { input_tokens: 0, output_tokens };
    response
      .writeHead(200, { "content-type": "application/json" })
      .end(JSON.stringify({ model: "claude-opus-5", usage }));
  };

const withLimits = (limits: Limits, handler: Handler) => runningProxy({ handler, grant: { limits } });

async function usageOf(proxy: RunningProxy): Promise<Record<string, unknown>> {
  return await proxy.control({ id: 9, op: "usage", account: sandboxId });
}

async function until(proxy: RunningProxy, holds: (usage: Record<string, unknown>) => boolean): Promise<void> {
  while (!holds(await usageOf(proxy)));
}

for (const count of [1, 10, 100]) {
  test(`${count} requests at once at the edge of a budget: one goes through, and no more is spent than there is`, async () => {
    const waiting: ServerResponse[] = [];
    await using proxy = await withLimits({ usd: requestUsd * 1.5 }, (_incoming, response) => waiting.push(response));
    const answers = Array.from({ length: count }, () => proxy.send({}));
    const refused = Promise.all(answers.map((answer) => answer.then(({ headers }) => headers["x-modal-sb-reason"])));
    await until(proxy, ({ refused: so }) => so === count - 1 && waiting.length === 1);
    assert.equal(waiting.length, 1);
    using(100)(proxy.arrived[0] as never, waiting[0] as ServerResponse);
    const reasons = await refused;
    assert.equal(reasons.filter((reason) => reason === "budget_exceeded").length, count - 1);
    assert.ok(Number((await usageOf(proxy))["usd"]) <= requestUsd * 1.5);
  });
}

test("a refusal for lack of budget says what was asked, what is left, and is not worth repeating", async () => {
  await using proxy = await withLimits({ usd: 0.001 }, using(1));
  const answer = await proxy.send({});
  assert.deepEqual([answer.status, answer.headers["x-should-retry"]], [402, "false"]);
  assert.match(JSON.parse(answer.body).error.message, /up to \$0\.0027 and \$0\.0010 is left of \$0\.0010/);
  assert.equal(proxy.arrived.length, 0);
});

test("a request cannot hide what it wants cached behind escapes", async () => {
  const system = [{ type: "text", text: "x".repeat(30_000), cache_control: { type: "ephemeral", ttl: "1h" } }];
  const plain = messageBody({ system });
  const escaped = plain.replace("cache_control", "cache\\u005fcontrol").replace('"1h"', '"\\u0031h"');
  await using proxy = await withLimits({ usd: 0.08 }, using(1));
  const answers = await Promise.all([plain, escaped].map((body) => proxy.send({ body })));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [402, 402],
  );
});

test("a number of searches below zero gives no money back", async () => {
  const grant = { limits: { usd: 0.1 }, upstreams: { anthropic: { allow: ["web_search"] } } };
  const tools = [{ type: "web_search_20250305", name: "web_search", max_uses: -1_000_000 }];
  await using proxy = await runningProxy({ grant, handler: using(1) });
  assert.equal((await proxy.send({ body: messageBody({ tools }) })).status, 402);
});

test("what was set aside and not used is free again", async () => {
  await using proxy = await withLimits({ usd: requestUsd * 1.2 }, using(1));
  for (let count = 0; count < 5; count += 1) assert.equal((await proxy.send({})).status, 200);
});

test("tokens have limits of their own", async () => {
  for (const [limits, words] of [
    [{ outputTokens: 150 }, /100 output tokens and 50 output tokens is left/],
    [{ inputTokens: 40 }, /30 input tokens and 10 input tokens is left/],
  ] as const) {
    await using proxy = await withLimits(limits, (_incoming, response) => {
      const usage = { input_tokens: 30, output_tokens: 100 };
      response.end(JSON.stringify({ usage }));
    });
    assert.equal((await proxy.send({})).status, 200);
    const answer = await proxy.send({});
    assert.equal(answer.status, 402);
    assert.match(JSON.parse(answer.body).error.message, words);
  }
});

test("clients that leave again and again run out of budget", async () => {
  const opened: ServerResponse[] = [];
  await using proxy = await withLimits({ usd: requestUsd + inputUsd * 3 }, (_incoming, response) => {
    opened.push(response.writeHead(200, { "content-type": "text/event-stream" }));
    response.flushHeaders();
  });
  for (let count = 1; ; count += 1) {
    const answer = await proxy.open({});
    if (answer.statusCode === 402) {
      assert.equal(count, 5);
      break;
    }
    answer.destroy();
    await until(proxy, ({ running }) => running === 0);
  }
  assert.equal(opened.length, 4);
});

test("at 80, 90, 95 and 100 per cent the host is told once, and the agent by a header", async () => {
  await using proxy = await withLimits({ usd: 0.05 }, using(100));
  const follower = await proxy.follow();
  const headers: unknown[] = [];
  for (let count = 1; count <= 20; count += 1) {
    const { status, headers: got } = await proxy.send({ body: messageBody({ max_tokens: 1 }) });
    if (status !== 200) break;
    headers.push(got["x-modal-sb-budget"]);
  }
  await until(proxy, ({ running }) => running === 0);
  const notices = follower.events.filter(({ event }) => event === "notice");
  assert.deepEqual(
    notices.map(({ kind, limit, percent, of }) => [kind, limit, percent, of]),
    [80, 90, 95, 100].map((percent) => ["budget", "usd", percent, 0.05]),
  );
  assert.deepEqual(headers.slice(14, 18), [undefined, undefined, "80% of $0.0500", "85% of $0.0500"]);
});

test("a limit can be raised while the proxy runs", async () => {
  await using proxy = await withLimits({ usd: 0 }, using(1));
  assert.equal((await proxy.send({})).status, 402);
  const changed = await proxy.control({ id: 1, op: "change", sandboxId, limits: { usd: 1 } });
  assert.deepEqual(changed, { id: 1, ok: true });
  assert.equal((await proxy.send({})).status, 200);
  const unknown = await proxy.control({ id: 2, op: "change", sandboxId: "sb-other", limits: {} });
  assert.match(String(unknown["error"]), /no grant/);
});

test("sandboxes of one account share its budget, and others have their own", async () => {
  await using proxy = await withLimits({ usd: 1 }, using(100));
  await proxy.send({});
  const second = { sandboxId: "sb-second", tokenHash, expiresAt: Date.now() + 3_600_000, upstreams: { anthropic: {} } };
  await proxy.control({ id: 1, op: "grant", ...second, account: sandboxId, limits: { usd: outputUsd * 1.5 } });
  const headers = { "x-api-key": sandboxKey.replace(sandboxId, "sb-second") };
  assert.equal((await proxy.send({ headers })).headers["x-modal-sb-reason"], "budget_exceeded");
  await proxy.control({ id: 1, op: "grant", ...second, account: "other", limits: { usd: requestUsd } });
  assert.equal((await proxy.send({ headers })).status, 200);
});

test("more requests a minute, or at once, than allowed are told when to come back", async () => {
  await using paced = await withLimits({ requestsPerMinute: 2 }, using(1));
  assert.deepEqual([(await paced.send({})).status, (await paced.send({})).status], [200, 200]);
  const late = await paced.send({});
  assert.deepEqual([late.status, late.headers["x-modal-sb-reason"]], [429, "rate_limited"]);
  assert.match(String(late.headers["retry-after"]), /^([1-9]|[12]\d|30)$/);
  assert.equal(late.headers["x-should-retry"], undefined);
  const waiting: ServerResponse[] = [];
  await using busy = await withLimits({ concurrentRequests: 1 }, (_incoming, response) => waiting.push(response));
  const first = busy.send({});
  await until(busy, ({ running }) => running === 1);
  const second = await busy.send({});
  assert.deepEqual([second.status, second.headers["x-modal-sb-reason"]], [429, "too_many_streams"]);
  while (waiting.length === 0) await once(busy.upstream, "request");
  waiting[0]?.end("{}");
  assert.equal((await first).status, 200);
});

test("the pace fills up as time goes by, and never beyond its limit", () => {
  let now = 0;
  const pace = new Pace(() => now);
  const enter = () => pace.enter("a", { requestsPerMinute: 60 });
  for (let count = 0; count < 60; count += 1) assert.equal(enter(), undefined);
  assert.equal(enter()?.retryAfter, 1);
  now += 1000;
  assert.equal(enter(), undefined);
  assert.notEqual(enter(), undefined);
  now += 3_600_000;
  for (let count = 0; count < 60; count += 1) assert.equal(enter(), undefined);
  assert.notEqual(enter(), undefined);
});

test("a proxy that starts again knows spending, grants and revocations", async () => {
  await using folder = await temporaryFolder();
  const dataFolder = folder.path;
  {
    await using first = await runningProxy({ dataFolder, handler: using(100), grant: { limits: { usd: 1 } } });
    assert.equal((await first.send({})).status, 200);
  }
  {
    await using second = await runningProxy({ dataFolder, handler: using(100), grant: null });
    assert.equal((await usageOf(second))["usd"], outputUsd);
    assert.equal((await second.send({})).status, 200, "the grant is in force again");
    await second.control({ id: 1, op: "revoke", sandboxId });
  }
  await using third = await runningProxy({ dataFolder, handler: using(100), grant: null });
  assert.equal((await third.send({})).headers["x-modal-sb-reason"], "sandbox_key_refused");
  assert.equal((await usageOf(third))["usd"], outputUsd * 2);
});
