/** The attack corpus, over raw sockets: the upstream sees plain requests or none, and nothing shows a credential. */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { credentialForms } from "../../src/credential-forms.ts";
import { attacks, contraband } from "./attack-corpus.ts";
import { type RunningProxy, runningProxy, smallBody, token } from "./running-proxy.ts";

/** All that comes back until the proxy closes; the client's own side stays open, as an attacker's would. */
async function exchange(path: string, bytes: string | Buffer): Promise<string> {
  const socket = connect(path);
  let answer = "";
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString("latin1");
  });
  // the proxy may close before it has read all
  socket.on("error", () => {});
  socket.write(bytes);
  await new Promise((resolve) => socket.once("close", resolve));
  return answer;
}

async function recording() {
  const bodies: string[] = [];
  const proxy = await runningProxy({
    handler: async (incoming, response) => {
      let body = "";
      for await (const chunk of incoming) body += chunk;
      bodies.push(body);
      // an upstream that gives away all that it got
      response.setHeader("request-id", `req-${incoming.headers["x-api-key"]}`);
      response.end(JSON.stringify({ headers: incoming.rawHeaders, trailers: incoming.rawTrailers }));
    },
  });
  return { proxy, bodies, [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose]() };
}

/** The canary sweep: what the client got, and every file that the proxy writes. */
async function assertNoCredential(proxy: RunningProxy, answer: string): Promise<void> {
  const names = (await readdir(proxy.dataFolder)).filter((name) => /^(audit|ledger)/.test(name));
  assert.ok(names.includes("ledger.db"));
  const files = await Promise.all(names.map((name) => readFile(join(proxy.dataFolder, name), "latin1")));
  for (const sink of [answer, ...files]) {
    for (const form of credentialForms(proxy.key)) assert.ok(!sink.includes(form));
    assert.ok(!sink.includes(token), "nor the sandbox's own key");
  }
}

for (const [family, members] of Object.entries(attacks)) {
  for (const { name, bytes, outcome } of members) {
    test(`${family}: ${name} is ${outcome}`, async () => {
      await using running = await recording();
      const { proxy, bodies } = running;
      const answer = await exchange(proxy.listenPath, bytes);
      const status = /^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1];
      if (outcome === "refused") {
        assert.match(status ?? "400", /^4\d\d$/, answer);
        assert.equal(proxy.arrived.length, 0);
      } else {
        assert.equal(status, "200", answer);
        assert.equal(proxy.arrived.length, 1);
        const [arrived] = proxy.arrived;
        assert.deepEqual([arrived?.method, arrived?.url, bodies], ["POST", "/v1/messages", [smallBody]]);
        const seen = JSON.stringify([arrived?.rawHeaders, arrived?.rawTrailers]).toLowerCase();
        for (const word of contraband) assert.ok(!seen.includes(word.toLowerCase()), `${word} in ${seen}`);
        assert.ok(seen.includes(proxy.key.toLowerCase()));
      }
      await assertNoCredential(proxy, answer);
    });
  }
}

test("a request that comes byte by byte is served like any other", async () => {
  await using running = await recording();
  const { proxy } = running;
  const socket = connect(proxy.listenPath);
  socket.setNoDelay(true);
  const attack = attacks["C: credentials of the client"]?.find(({ outcome }) => outcome === "served");
  for (const byte of Buffer.from(attack?.bytes ?? "")) {
    await new Promise((resolve) => socket.write(Buffer.from([byte]), resolve));
  }
  assert.match(await text(socket), /^HTTP\/1\.1 200/);
  assert.deepEqual(running.bodies, [smallBody]);
});

test("no refusal prints the sandbox key, whole or by its token", async () => {
  await using running = await recording();
  const { proxy } = running;
  for (const [family, members] of Object.entries(attacks)) {
    if (family.startsWith("A")) continue;
    for (const { bytes } of members.filter((attack) => attack.outcome === "refused").slice(0, 20)) {
      const answer = await exchange(proxy.listenPath, bytes);
      for (const word of contraband.filter((item) => item.length > 20)) assert.ok(!answer.includes(word), answer);
    }
  }
});
