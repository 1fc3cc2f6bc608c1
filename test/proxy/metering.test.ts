/** What answers cost: the same however they come, and never nothing for what was sent. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Prices } from "../../src/proxy/prices.ts";
import { corpus, type MeteredAnswer } from "./metering-corpus.ts";
import { messageBody, runningProxy, sandboxId } from "./running-proxy.ts";

const estimatedInput = Math.ceil(messageBody().length / 3);

/** Dollars for claude-opus-5: 5 and 25 a million, the cache by its factors. */
function expected({ tokens, output = 0, searches = 0 }: MeteredAnswer): { tokens: number[]; usd: number } {
  const [input, out, read, written, hour] = tokens === "estimated input" ? [estimatedInput, output, 0, 0, 0] : tokens;
  const perMillion = input * 5 + out * 25 + read * 0.5 + (written - hour) * 6.25 + hour * 10;
  return { tokens: [input, out, read, written], usd: perMillion / 1e6 + searches * 0.01 };
}

/** Cuts that are the same in each run, from one byte to large pieces. */
function* cuts(body: Buffer): Generator<Buffer[]> {
  yield [body];
  yield [...body].map((byte) => Buffer.from([byte]));
  for (let seed = 1; seed <= 12; seed += 1) {
    const pieces: Buffer[] = [];
    let state = seed;
    for (let at = 0; at < body.length; ) {
      state = (state * 48_271) % 2_147_483_647;
      const length = 1 + (state % (seed * 9));
      pieces.push(body.subarray(at, at + length));
      at += length;
    }
    yield pieces;
  }
}

for (const answer of corpus) {
  test(`the charge for ${answer.name} is right, and the bytes are the same, however it is cut`, async () => {
    const body = Buffer.from(answer.body);
    for (const pieces of cuts(body)) {
      await using proxy = await runningProxy({
        handler: async (_incoming, response) => {
          response.writeHead(answer.status ?? 200, { "content-type": answer.contentType }).flushHeaders();
          for (const piece of pieces) response.write(piece);
          await new Promise<void>((resolve) => response.write("", () => resolve()));
          if (answer.dies) response.destroy();
          else response.end();
        },
      });
      const incoming = await proxy.open({});
      const got: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => got.push(chunk));
      await new Promise<void>((resolve) => incoming.once("close", resolve));
      assert.deepEqual(Buffer.concat(got).toString(), answer.body);
      assert.equal(incoming.complete, !answer.dies);
      const { tokens, usd } = expected(answer);
      const [line] = await proxy.audit();
      const figures = [
        line?.["inputTokens"],
        line?.["outputTokens"],
        line?.["cacheReadTokens"],
        line?.["cacheWriteTokens"],
      ];
      assert.deepEqual(figures, tokens);
      assert.equal((Number(line?.["cost"]) * 1e9).toFixed(0), (usd * 1e9).toFixed(0));
      const { usd: spent } = await proxy.control({ id: 2, op: "usage", account: sandboxId });
      assert.equal(spent, line?.["cost"]);
    }
  });
}

test("a client that leaves early is charged its input, as it was estimated", async () => {
  await using proxy = await runningProxy({
    handler: (_incoming, response) => response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders(),
  });
  const answer = await proxy.open({});
  answer.destroy();
  await untilCounted(proxy, 1);
  const [line] = await proxy.audit();
  assert.deepEqual([line?.["reason"], line?.["inputTokens"]], ["client_gone", estimatedInput]);
});

test("a client cannot blind the meter: an encoding that it asks for is not passed on", async () => {
  await using proxy = await runningProxy();
  await proxy.send({
    headers: { "x-api-key": `${sandboxId}.token-of-the-sandbox-0123456789`, "accept-encoding": "zstd;q=1, br" },
  });
  assert.equal(proxy.arrived[0]?.headers["accept-encoding"], "identity");
});

async function untilCounted(proxy: Awaited<ReturnType<typeof runningProxy>>, requests: number): Promise<void> {
  while ((await proxy.control({ id: 3, op: "usage", account: sandboxId }))["requests"] !== requests);
}

test("prices: dated and latest ids are their model's, an unknown model costs the dearest, overrides come first", () => {
  const prices = new Prices({
    "claude-opus-5": { input: 1, output: 2, cacheRead: 3, cacheWrite: 4, cacheWriteHour: 5 },
  });
  assert.equal(prices.of("claude-opus-5").price.output, 2);
  for (const id of [
    "claude-haiku-4-5",
    "claude-haiku-4-5-20251001",
    "claude-haiku-4-5-latest",
    "claude-haiku-4-5[1m]",
  ]) {
    assert.deepEqual([prices.of(id).price.input, prices.of(id).isKnown], [1, true], id);
  }
  for (const id of ["claude-haiku-4-5-turbo", "claude-haiku", "gpt", "", "__proto__", "constructor"]) {
    assert.deepEqual([prices.of(id).price.input, prices.of(id).isKnown], [15, false], id);
  }
});

test("a model whose price is unknown costs the dearest, and the host is told once", async () => {
  await using proxy = await runningProxy();
  const follower = await proxy.follow();
  await proxy.send({ body: messageBody({ model: "claude-next-9" }) });
  await proxy.send({ body: messageBody({ model: "claude-next-9" }) });
  await untilCounted(proxy, 2);
  const notices = follower.events.filter(({ event }) => event === "notice");
  assert.deepEqual(notices, [{ event: "notice", kind: "unknown_price", name: "claude-next-9" }]);
  const [line] = await proxy.audit();
  assert.equal(line?.["cost"], (Math.ceil(messageBody({ model: "claude-next-9" }).length / 3) * 15) / 1e6);
});
