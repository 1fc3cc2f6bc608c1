/** What the real clients make of a refusal: they ask once, and show the proxy's words without advice that leads nowhere. */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { betaRules, type Rule, undatedName } from "../../src/proxy/anthropic-lists.ts";
import { githubApiUpstream, githubGitUpstream } from "../../src/proxy/upstreams/github.ts";
import { huggingFaceUpstream } from "../../src/proxy/upstreams/huggingface.ts";
import { Claude } from "../demo/claude.ts";
import { installPackages, packagesFolder } from "../helpers/python-packages.ts";
import { betasOf } from "../helpers/sent-requests.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { type ProxySetting, type RunningProxy, runningProxy, sandboxId, sandboxKey } from "./running-proxy.ts";

const unknownKey = `${sandboxId}.another-token-0123456789`;

const words = /modal-sb proxy: /;
/** What clients add when they mistake a refusal for something else. */
const misleading =
  /failed to authenticate|authentication failed|auth login|are authenticated|your token|connection|selected model/i;
/** A missing key is neither expired nor revoked. */
const ofAnotherKey = /unknown|expired|revoked/;

function assertPlain(shown: string, what: string): void {
  assert.match(shown, words, what);
  assert.doesNotMatch(shown, misleading, what);
}

/** Why the proxy refused each request, except for what huggingface_hub asks for in passing. */
async function reasons(proxy: RunningProxy): Promise<unknown[]> {
  const audit = await proxy.audit();
  return audit.filter(({ path }) => !String(path).endsWith("/api/agent-harnesses")).map(({ reason }) => reason);
}

/** Everything that a command prints on both streams, because the agent reads all of it. */
function output(command: string, parameters: readonly string[], env: Record<string, string>): Promise<string> {
  const environment = { PATH: process.env["PATH"], ...env };
  return new Promise((resolve) => {
    execFile(command, parameters, { env: environment }, (_error, stdout, stderr) => resolve(stdout + stderr));
  });
}

const grants = {
  feature_not_allowed: {},
  budget_exceeded: { limits: { usd: 0 } },
  model_not_allowed: { upstreams: { anthropic: { models: ["claude-small-*"] } } },
  sandbox_key_refused: {},
} satisfies Record<string, ProxySetting["grant"]>;
/** With this tool, the API would call any address that the agent writes. */
const tools = [{ type: "web_fetch_20250910", name: "web_fetch" }];
const anthropicReasons = Object.keys(grants) as (keyof typeof grants)[];

for (const reason of anthropicReasons) {
  test(`claude shows "${reason}" as it is, asks once, and reports the reason as a field`, async () => {
    await using proxy = await runningProxy({ grant: grants[reason] });
    const key = reason === "sandbox_key_refused" ? unknownKey : sandboxKey;
    const environment = reason === "feature_not_allowed" ? { CLAUDE_CODE_EXTRA_BODY: JSON.stringify({ tools }) } : {};
    await using claude = await Claude.start(proxy.origin, key, environment);
    const { text, result } = await claude.say("hello");
    assertPlain(text, reason);
    assert.deepEqual(await reasons(proxy), [reason]);
    // the field is not in the SDK's types
    assert.equal((result as { api_error_code?: string }).api_error_code, reason);
    assert.equal(proxy.arrived.length, 0);
  });
}

test("claude goes on without any of its betas that the proxy does not know", async (context) => {
  const rules = betaRules as Record<string, Rule>;
  const sends = async () => {
    await using api = await startScriptedApi({ script: echo() });
    await using proxy = await runningProxy({ origin: api.origin });
    await using claude = await Claude.start(proxy.origin, sandboxKey);
    const { text, result } = await claude.say("hello");
    assert.deepEqual([result.is_error, text], [false, "turn 1: You said: hello"]);
    return { betas: betasOf(api.requests[0]), refused: (await reasons(proxy)).slice(0, -1) };
  };
  const { betas, refused } = await sends();
  assert.deepEqual(refused, [], "with the lists as they are");
  assert.ok(betas.length > 5, betas.join());
  const known = { ...rules };
  context.after(() => Object.assign(rules, known));
  for (const name of Object.keys(rules)) if (betas.some((beta) => undatedName(beta) === name)) delete rules[name];
  const left = await sends();
  assert.deepEqual(
    left.betas.filter((beta) => betas.includes(beta)),
    [],
  );
  assert.deepEqual([...new Set(left.refused)], ["input_not_allowed"]);
});

/** One proxy per reason for which both SDKs are refused, and the request for it. */
async function sdkScenes() {
  const undo = new AsyncDisposableStack();
  const request = { model: "claude-opus-5", max_tokens: 50, messages: [{ role: "user" as const, content: "hi" }] };
  const open = async (reason: string, grant: ProxySetting["grant"], key: string | null, changes: object = {}) => {
    const proxy = undo.use(await runningProxy({ grant: grant ?? {} }));
    return { reason, proxy, key, path: "/v1/messages", body: { ...request, ...changes } };
  };
  return {
    scenes: [
      await open("feature_not_allowed", {}, sandboxKey, { tools }),
      await open("budget_exceeded", grants.budget_exceeded, sandboxKey),
      await open("model_not_allowed", grants.model_not_allowed, sandboxKey),
      { ...(await open("path_not_allowed", {}, sandboxKey)), path: "/v1/messages/batches" },
      await open("sandbox_key_refused", {}, unknownKey),
      await open("a missing key", {}, null),
    ],
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}

type Scene = Awaited<ReturnType<typeof sdkScenes>>["scenes"][number];

async function assertScene({ reason, proxy, key }: Scene, shown: string): Promise<void> {
  assertPlain(shown, reason);
  const refused = await reasons(proxy);
  assert.equal(refused.length, 1, `${reason}: ${refused.join()}`);
  if (key === null) assert.doesNotMatch(shown, ofAnotherKey);
  else assert.equal(refused[0], reason);
}

test("the TypeScript SDK shows refusals as they are, and asks once", async () => {
  await using sdk = await sdkScenes();
  for (const scene of sdk.scenes) {
    const client = new Anthropic({
      ...{ baseURL: scene.proxy.origin, apiKey: scene.key, authToken: null },
      ...(scene.key === null && { defaultHeaders: { "x-api-key": null, authorization: null } }),
    });
    const error = await client.post(scene.path, { body: scene.body }).catch((thrown: unknown) => thrown);
    await assertScene(scene, (error as Error).message);
  }
});

const anthropicForPython = "anthropic-2.14.0";

test("the Python SDK shows refusals as they are, and asks once", async (context) => {
  const missing = await installPackages(anthropicForPython, ["anthropic==2.14.0"]);
  if (missing !== undefined) return context.skip(missing);
  await using sdk = await sdkScenes();
  const cases = sdk.scenes.map(({ proxy, key, path, body }) => ({ origin: proxy.origin, key, path, body }));
  const code = `
import anthropic, json, sys
for case in json.loads(sys.argv[1]):
    headers = {} if case["key"] else {"x-api-key": anthropic.Omit(), "Authorization": anthropic.Omit()}
    client = anthropic.Anthropic(base_url=case["origin"], api_key=case["key"], default_headers=headers)
    try: client.post(case["path"], body=case["body"], cast_to=object)
    except Exception as error: print(json.dumps(str(error)))
`;
  const printed = await output("python3", ["-c", code, JSON.stringify(cases)], {
    PYTHONPATH: packagesFolder(anthropicForPython),
  });
  const shown = printed.trim().split("\n");
  assert.equal(shown.length, sdk.scenes.length, printed);
  for (const [index, scene] of sdk.scenes.entries()) await assertScene(scene, JSON.parse(shown[index] ?? ""));
});

test("the Python SDK's tool runner goes on without a thread, which is refused", async (context) => {
  const missing = await installPackages(anthropicForPython, ["anthropic==2.14.0"]);
  if (missing !== undefined) return context.skip(missing);
  await using api = await startScriptedApi({ script: echo() });
  await using proxy = await runningProxy({ origin: api.origin });
  const code = `
import anthropic, sys
client = anthropic.Anthropic(base_url=sys.argv[1], api_key=sys.argv[2])
messages = [{"role": "user", "content": "hi"}]
runner = client.beta.messages.tool_runner(model="claude-opus-5", max_tokens=50, messages=messages, tools=[])
print(runner.until_done().content[0].text)
`;
  const environment = { PYTHONPATH: packagesFolder(anthropicForPython) };
  const printed = await output("python3", ["-c", code, proxy.origin, sandboxKey], environment);
  assert.equal(printed, "turn 1: You said: hi\n");
  assert.deepEqual(await reasons(proxy), ["input_not_allowed", null]);
});

const openGitHub = () =>
  runningProxy({
    upstreams: (origin) => [githubGitUpstream(origin), githubApiUpstream(origin)],
    grant: { upstreams: { github: { repositories: { "acme/thesis": "write", "acme/library": "read" } } } },
  });

test("git shows refusals as they are, after one challenge", async () => {
  await using folder = await temporaryFolder();
  const at = ["-C", folder.path, "-c", "user.name=a", "-c", "user.email=a@b.c"];
  execFileSync("git", [...at, "init", "-q"]);
  execFileSync("git", [...at, "commit", "-q", "--allow-empty", "-m", "x"]);
  for (const [reason, key, command] of [
    ["repository_not_granted", sandboxKey, (origin: string) => ["clone", `${origin}/acme/secret`]],
    ["repository_not_granted", sandboxKey, (origin: string) => ["push", `${origin}/acme/library`, "HEAD:main"]],
    ["path_not_allowed", sandboxKey, (origin: string) => ["ls-remote", `${origin}/acme/thesis/wiki`]],
    ["sandbox_key_refused", unknownKey, (origin: string) => ["ls-remote", `${origin}/acme/thesis`]],
  ] as const) {
    await using proxy = await openGitHub();
    const helper = `!f() { test "$1" = get && echo username=sandbox && echo password=${key}; }; f`;
    const parameters = [...at, "-c", `credential.helper=${helper}`, ...command(`${proxy.origin}/github.com`)];
    const env = { HOME: folder.path, GIT_CONFIG_NOSYSTEM: "1", GIT_TERMINAL_PROMPT: "0" };
    assertPlain(await output("git", parameters, env), `${reason}: git ${parameters.join(" ")}`);
    const [challenge, ...refused] = await reasons(proxy);
    assert.match(String(challenge), /^sandbox_key_/);
    assert.deepEqual(refused, [reason]);
  }
});

test("gh shows refusals as they are, and asks once", {
  skip: existsSync("/usr/bin/gh") ? false : "gh is not installed: apt-get install gh",
}, async () => {
  for (const [reason, key, parameters] of [
    ["repository_not_granted", sandboxKey, ["api", "repos/acme/secret/issues"]],
    ["path_not_allowed", sandboxKey, ["api", "user"]],
    ["path_not_allowed", sandboxKey, ["issue", "list", "-R", "acme/thesis"]],
    ["sandbox_key_refused", unknownKey, ["issue", "list", "-R", "acme/thesis"]],
  ] as const) {
    await using proxy = await openGitHub();
    await using folder = await temporaryFolder();
    const settings = `version: "1"\nprompt: disabled\nhttp_unix_socket: ${proxy.githubApiPath}\n`;
    await writeFile(join(folder.path, "config.yml"), settings);
    const env = { HOME: folder.path, GH_CONFIG_DIR: folder.path, GH_TOKEN: key, GH_NO_UPDATE_NOTIFIER: "1" };
    assertPlain(await output("gh", parameters, env), `${reason}: gh ${parameters.join(" ")}`);
    assert.deepEqual(await reasons(proxy), [reason]);
  }
});

const hub = "huggingface_hub-2.4.0";

test("huggingface_hub shows refusals as they are, and asks once", async (context) => {
  const missing = await installPackages(hub, ["huggingface_hub==2.4.0"]);
  if (missing !== undefined) return context.skip(missing);
  await using folder = await temporaryFolder();
  await using proxy = await runningProxy({
    upstreams: (origin) => [huggingFaceUpstream(origin)],
    grant: { upstreams: { huggingface: { repositories: ["acme/private"] } } },
  });
  const code = `
from huggingface_hub import *
import json, os
key, unknown = os.environ["KEY"], os.environ["UNKNOWN_KEY"]
for call in [
    lambda: hf_hub_download("acme/other", "config.json", token=key),
    lambda: snapshot_download("acme/other", token=key),
    lambda: model_info("acme/other", token=key),
    lambda: create_repo("acme/other", token=key),
    lambda: hf_hub_download("acme/private", "config.json", token=unknown),
    lambda: hf_hub_download("acme/private", "config.json", token=False),
]:
    try: call()
    except Exception as error: print(json.dumps(str(error)))
`;
  const printed = await output("python3", ["-c", code], {
    ...{ PYTHONPATH: packagesFolder(hub), HOME: folder.path, HF_HOME: folder.path },
    ...{ HF_ENDPOINT: `${proxy.origin}/huggingface.co`, HF_HUB_DISABLE_XET: "1", HF_HUB_DISABLE_PROGRESS_BARS: "1" },
    ...{ KEY: sandboxKey, UNKNOWN_KEY: unknownKey },
  });
  const shown: string[] = printed
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(shown.length, 6, printed);
  for (const text of shown) assertPlain(text, printed);
  assert.doesNotMatch(shown.at(-1) ?? "", ofAnotherKey);
  const refused = await reasons(proxy);
  assert.deepEqual(refused.slice(0, -1), [
    ...["repository_not_granted", "repository_not_granted", "repository_not_granted"],
    ...["path_not_allowed", "sandbox_key_refused"],
  ]);
  assert.equal(refused.length, shown.length);
});
