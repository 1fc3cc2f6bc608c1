/** `modal-sb usage` and `modal-sb audit`: what a session spent and how each request was decided. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { bytesPerToken } from "../../src/proxy/cost.ts";
import { leastInputTokens, usualModel } from "../../src/session/payable.ts";
import { ended, User } from "../helpers/cli.ts";

test("usage and audit show a session's spending and decisions, as tables and as JSON", async () => {
  await using user = await User.create();
  assert.match((await user.run(["usage"])).stdout, /no session yet/);
  assert.equal((await user.run(["-p", "hello", "-s", "first"])).code, 0);
  const table = await user.run(["usage"]);
  assert.match(
    table.stdout,
    /^session +requests +refused +input +output +of cache +spent\nfirst +1 +0 +\d{4,} +\d+ +0 +\$0\.0\d{3}\n$/,
  );
  const [line = ""] = (await user.run(["usage", "first", "--json"])).stdout.split("\n");
  const { requests, usd } = JSON.parse(line);
  assert.equal(requests, 1);
  const audit = await user.run(["audit"]);
  assert.match(
    audit.stdout,
    /^\d{4}-\d\d-\d\dT[\d:]{8} {2}200 {2}anthropic {2}POST \/v1\/messages {2}claude-\S+ {2}\d+→\d+ tokens {2}\$0\.\d{4} {2}\d+ ms\n$/,
  );
  const entry = JSON.parse((await user.run(["audit", "first", "--json"])).stdout);
  assert.deepEqual([entry.status, entry.reason, entry.cost], [200, null, usd]);
  for (const { stdout } of [table, audit]) assert.ok(!stdout.includes(user.key));
  const unknown = await user.run(["audit", "nobody"]);
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /There is no session "nobody"/);
});

test("a budget from the command line refuses what could exceed it, and says how to go on", async () => {
  await using user = await User.create();
  const input = "hello\nagain\n";
  const outcome = await user.run(["-s", "poor", "--budget-usd", "0.74"], { input });
  assert.equal(outcome.code, 8, outcome.stderr);
  assert.match(outcome.stdout, /^turn 1: You said: hello\nEND_TURN/);
  assert.match(outcome.stderr, /could use up to \$\d+\.\d\d and \$\d+\.\d\d is left of \$0\.74/);
  assert.doesNotMatch(outcome.stderr, /Failed to authenticate/);
  assert.match(outcome.stderr, /hint: raise the budget \(--budget-usd\), or let a request use less/);
  assert.match((await user.run(["audit", "poor"])).stdout, /402 {2}anthropic {2}POST \/v1\/messages.*budget_exceeded/);
  assert.equal((await user.run(["-p", "hello", "-s", "poor", "--budget-usd", "5"])).code, 0);
});

test("a budget that cannot pay for one request is refused before a sandbox is started", async () => {
  await using user = await User.create();
  const fresh = await user.run(["-p", "hello", "-s", "penniless", "--budget-usd", "0.01"]);
  assert.equal(fresh.code, 8, fresh.stderr);
  assert.match(fresh.stderr, /Cannot start the session "penniless": \$0\.0100 of its budget of \$0\.0100 is left/);
  assert.match(
    fresh.stderr,
    /a request to claude-opus-5-5 can cost \$0\.68\n\nhint: set a larger budget \(--budget-usd 2\)/,
  );
  assert.ok(!readdirSync(user.home, { recursive: true }).some((path) => String(path).includes("penniless")));
  const first = await user.run(["-p", "hello", "-s", "saver", "--budget-usd", "1"]);
  assert.equal(first.code, 0, first.stderr);
  const requests = user.api.requests.length;
  const spent = JSON.parse((await user.run(["usage", "saver", "--json"])).stdout).usd as number;
  const second = await user.run(["-p", "again", "-s", "saver", "--budget-usd", String(spent)]);
  assert.equal(second.code, 8, second.stderr);
  assert.match(second.stderr, /Cannot start the session "saver": \$0\.00 of its budget of \$0\.\d+ is left/);
  assert.equal(user.api.requests.length, requests);
});

for (const [what, argv, env, settings] of [
  ["an alias of several families", ["--model", "opusplan", "--budget-usd", "0.6"], {}, undefined],
  ["a retired model, in whose place claude asks for another", ["--model", "claude-opus-4-1"], {}, undefined],
  ["a cheaper model in the instructions", ["--budget-usd", "0.3"], {}, { model: "claude-haiku-4-5" }],
  ["more output than the model can write", [], { MODAL_SB_MAX_OUTPUT_TOKENS: "500000" }, { model: "claude-haiku-4-5" }],
] as const) {
  test(`a budget that can pay is not refused: ${what}`, async () => {
    await using user = await User.create();
    const instructions = join(user.home, "instructions");
    await mkdir(instructions);
    if (settings) await writeFile(join(instructions, "settings.json"), JSON.stringify(settings));
    const more = settings ? ["--instructions", instructions] : [];
    const outcome = await user.run(["-p", "hello", "--budget-usd", "1", ...argv, ...more], { env });
    assert.equal(outcome.code, 0, outcome.stderr);
  });
}

test("an account that cannot be read is the proxy's to speak of", async () => {
  await using user = await User.create();
  assert.equal((await user.run(["-p", "hello", "-s", "damaged"])).code, 0);
  await writeFile(join(user.stateFolder, "volumes/damaged-audit/content/ledger.db"), "no database");
  const outcome = await user.run(["-p", "again", "-s", "damaged"]);
  assert.equal(outcome.code, 3, outcome.stderr);
  assert.doesNotMatch(outcome.stderr, /a bug in modal-sb/);
});

test("what is expected of a request's price is no more than what claude asks for", async () => {
  await using user = await User.create();
  assert.equal((await user.run(["-p", "hello", "-s", "usual"])).code, 0);
  const body = user.api.requests[0]?.body as { model: string; max_tokens: number };
  assert.deepEqual([body.model, body.max_tokens], [usualModel, 32_000]);
  assert.ok(Buffer.byteLength(JSON.stringify(body)) / bytesPerToken >= leastInputTokens);
});

test("audit --follow goes on with what comes, until it is interrupted", async () => {
  await using user = await User.create();
  assert.equal((await user.run(["-p", "one", "-s", "watched"])).code, 0);
  const follower = user.start(["audit", "watched", "--follow", "--json"]);
  assert.ok(follower.stdout);
  const lines = createInterface({ input: follower.stdout });
  await once(lines, "line");
  const next = once(lines, "line");
  assert.equal((await user.run(["-p", "two", "-s", "watched"])).code, 0);
  assert.equal(JSON.parse(String((await next)[0])).status, 200);
  follower.kill("SIGINT");
  assert.equal((await ended(follower)).code, 0);
});

test("a project cannot raise a budget, open a repository or add an upstream", async () => {
  await using user = await User.create();
  for (const [key, value] of Object.entries({
    budgetUsd: 1000,
    github: { repositories: { "a/b": "write" } },
    anthropicAllow: ["web_fetch"],
    upstreams: { x: { origin: "https://evil.example", allow: [{ methods: ["POST"], path: "/*" }] } },
    keyCommand: "cat ~/.ssh/id_rsa",
    dangerouslyGiveAgentGithubToken: true,
  })) {
    await writeFile(`${user.home}/project/modal-sb.json`, JSON.stringify({ [key]: value }));
    const outcome = await user.run(["-p", "hi"]);
    assert.equal(outcome.code, 2);
    assert.match(outcome.stderr, new RegExp(`"${key}" cannot be set in .*spend your money`));
  }
});

test("settings for the proxy that cannot be used name the reason", async () => {
  await using user = await User.create();
  for (const [env, words] of [
    [{ MODAL_SB_GITHUB: "{" }, /MODAL_SB_GITHUB is not JSON/],
    [{ MODAL_SB_GITHUB: '{"repositories": {"../x": "read"}}' }, /Bad value for "github".*repositories\.\.\.\/x/],
    [
      { MODAL_SB_GITHUB: '{"repositories": {"a/b": "read"}}' },
      /"github" needs a token, and there is none in GITHUB_TOKEN or GH_TOKEN/,
    ],
    [
      { MODAL_SB_UPSTREAMS: '{"x": {"origin": "http://far.example", "allow": []}}' },
      /Bad value for "upstreams".*https/,
    ],
    [
      { MODAL_SB_UPSTREAMS: '{"v1": {"origin": "https://x.example", "allow": [{"methods": ["GET"], "path": "/"}]}}' },
      /cannot be called "v1"/,
    ],
    [{ MODAL_SB_BUDGET_USD: "lots" }, /Bad value for "budgetUsd"/],
    [{ MODAL_SB_KEY_COMMAND: "exit 9" }, /The command of MODAL_SB_KEY_COMMAND ended with code 9/],
  ] as const) {
    const outcome = await user.run(["-p", "hi"], { env });
    assert.equal(outcome.code, 2, outcome.stderr);
    assert.match(outcome.stderr, words);
  }
});
