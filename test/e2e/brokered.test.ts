/** Budgets, keys that are replaced, and what the sandbox is told of the proxy, in a whole session. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { CredentialSource } from "../../src/config/credential-source.ts";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { Secret } from "../../src/secret.ts";
import { runningSession, testKey } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

test("a budget: the user is told at its levels, the agent with the next message, and its end stops the agent", async () => {
  await using running = await runningSession({ changes: { useLimits: { inputTokens: 160_000 } } });
  const isTold = () => running.events.some((event) => event.type === "host_notice" && event.kind === "budget");
  while (!isTold()) assert.equal((await running.say("hello")).result, "success");
  const notice = await running.waitFor("host_notice", ({ kind }) => kind === "budget");
  assert.match(notice.message, /^80 % of this session's input tokens is used: \d{6} of 160000$/);
  await running.say("and now");
  assert.match(JSON.stringify(running.api.requests.at(-1)?.body), /<system-reminder>modal-sb: 80 % of .*and now/);
  let end = await running.say("on");
  while (end.result === "success") end = await running.say("and on");
  assert.match(
    end.error?.message ?? "",
    /modal-sb proxy: this request could use up to \d+ input tokens and \d+ input tokens is left/,
  );
});

test("a session's sandboxes share its budget: a new sandbox brings no new money", async () => {
  await using running = await runningSession({ changes: { useLimits: { inputTokens: 13_000 } } });
  assert.equal((await running.say("one")).result, "success");
  await running.session.kill();
  assert.match((await running.say("two")).error?.message ?? "", /input tokens is left of 13000/);
});

test("a key file that is written anew is used from the next turn on, without a new sandbox", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "key");
  await writeFile(path, testKey());
  const source = new CredentialSource({ file: path }, {}, "--key-file");
  const key = testKey();
  await using api = await startScriptedApi({ script: echo(), apiKey: key });
  const anthropic = { apiKey: await source.read(), source, origin: api.origin };
  await using running = await runningSession({ changes: { anthropic } });
  assert.equal((await running.say("one")).error?.apiStatus, 401);
  const notice = await running.waitFor("host_notice", ({ kind }) => kind === "warning");
  assert.match(notice.message, /anthropic refused the credential/);
  const sandbox = (await running.agent()).id;
  await writeFile(path, key);
  assert.equal((await running.say("two")).result, "success");
  assert.equal((await running.agent()).id, sandbox);
  await running.waitFor("host_notice", ({ kind }) => kind === "credential_replaced");
});

test("a credential that the user gives away by name is in the sandbox; the same one by accident is not", async () => {
  const token = new Secret(testKey());
  const known = new Map([["GITHUB_TOKEN", token]]);
  const given = { knownCredentials: known, dangerouslyGivenToAgent: known };
  await using running = await runningSession({ changes: given });
  await running.say("!bash echo $GITHUB_TOKEN");
  const ended = running.events.find((event) => event.type === "tool_ended");
  assert.ok(token.equals(new Secret((ended?.type === "tool_ended" && ended.output.trim()) || "")));
});

test("the sandbox is pointed to the proxy for what it brokers, and holds the sandbox key for it", async () => {
  const token = testKey();
  const changes = {
    huggingface: { token: new Secret(token), origin: "https://huggingface.co" },
    upstreams: [
      {
        name: "weather",
        origin: "http://127.0.0.1:9",
        credential: { value: new Secret(testKey()), injection: "bearer" as const },
        allow: [{ methods: ["GET"], path: "/v1/*" }],
      },
    ],
  };
  await using running = await runningSession({ changes });
  await running.say(
    "!bash echo $HF_ENDPOINT; test $HF_TOKEN = $MODAL_SB_SANDBOX_KEY && echo same; curl -s -o /dev/null -o /dev/null -w '%{http_code} ' -H \"authorization: Bearer $MODAL_SB_SANDBOX_KEY\" http://modal-sb-proxy:8080/weather/v1/today http://modal-sb-proxy:8080/weather/v2",
  );
  const ended = running.events.find((event) => event.type === "tool_ended");
  assert.equal(
    ended?.type === "tool_ended" && ended.output.trim(),
    "http://modal-sb-proxy:8080/huggingface.co\nsame\n502 403",
  );
});
