/** Programs that an agent runs accept the certificates of the emulated internet, by the bundle and the variables alone. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { test } from "node:test";
import { startScriptedApi } from "../../../src/demo/scripted-api.ts";
import { echo } from "../../../src/demo/scripts/echo.ts";
import { startGitServer } from "../../helpers/git-server.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { curl, introduces, options, runInside, startTestNetwork } from "./world.ts";

const answer = "pypi was asked for pypi.org";

test("curl and openssl", options, async () => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi") });
  await using sandbox = await world.network.open({ kind: "open" });
  const place = { network: world.network, sandbox };
  assert.equal((await curl(place, "https://pypi.org/")).stdout, answer);
  const byBundle = await runInside(place, ["env", "-i", "curl", "-sS", "https://pypi.org/"]);
  assert.equal(byBundle.stdout, answer, byBundle.stderr);
  const verified = await runInside(place, ["openssl", "s_client", "-verify_return_error", "-connect", "pypi.org:443"]);
  assert.match(verified.stdout, /Verify return code: 0/, verified.stderr);
  // and they do check: without the bundle the certificate is nobody's
  const unknown = await curl(place, "--cacert", "/dev/null", "https://pypi.org/");
  assert.equal(unknown.status, 77);
});

test("node, by https and by fetch", options, async () => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi") });
  await using sandbox = await world.network.open({ kind: "open" });
  const place = { network: world.network, sandbox };
  const program = `
    fetch("https://pypi.org/").then((response) => response.text()).then((fetched) => {
      require("node:https").get("https://pypi.org/", (response) => {
        response.setEncoding("utf8").on("data", (got) => console.log(JSON.stringify([fetched, got])));
      });
    });`;
  const { stdout, stderr } = await runInside(place, [process.execPath, "-e", program]);
  assert.deepEqual(JSON.parse(stdout || "null"), [answer, answer], stderr);
  const unknown = await runInside(place, [process.execPath, "-e", program], { NODE_EXTRA_CA_CERTS: "" });
  assert.match(unknown.stderr, /UNABLE_TO_VERIFY_LEAF_SIGNATURE|unable to get local issuer/);
});

test("python, by urllib and by requests", options, async (context) => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi") });
  await using sandbox = await world.network.open({ kind: "open" });
  const place = { network: world.network, sandbox };
  const script = "import urllib.request; print(urllib.request.urlopen('https://pypi.org/').read().decode())";
  const urllib = await runInside(place, ["python3", "-c", script]);
  assert.equal(urllib.stdout.trim(), answer, urllib.stderr);
  for (const library of ["requests", "httpx"]) {
    const code = `import ${library}; print(${library}.get('https://pypi.org/').text)`;
    const { stdout, stderr } = await runInside(place, ["python3", "-c", code]);
    if (/ModuleNotFoundError/.test(stderr)) context.diagnostic(`not tried: python3 has no ${library}`);
    else assert.equal(stdout.trim(), answer, stderr);
  }
});

test("git", options, async () => {
  await using folder = await temporaryFolder();
  await using git = await startGitServer(folder.path, "token", ["ada/engine"]);
  await using world = await startTestNetwork({ "github.com": git.origin });
  await using sandbox = await world.network.open({ kind: "open" });
  const list = ["git", "ls-remote", "https://x-access-token:token@github.com/ada/engine.git"];
  for (const command of [
    list,
    ["env", "-u", "GIT_SSL_CAINFO", "-u", "CURL_CA_BUNDLE", "-u", "SSL_CERT_FILE", ...list],
  ]) {
    const { status, stderr } = await runInside({ network: world.network, sandbox }, command);
    assert.equal(status, 0, stderr);
  }
  assert.ok(git.served.some((line) => line.startsWith("GET /ada/engine.git/info/refs")));
});

test("claude", options, async (context) => {
  const sdk = createRequire(createRequire(import.meta.url).resolve("@anthropic-ai/claude-agent-sdk"));
  const claude = sdk.resolve(`@anthropic-ai/claude-agent-sdk-linux-${process.arch}/claude`);
  context.diagnostic(execFileSync(claude, ["--version"], { encoding: "utf8" }).trim());
  await using api = await startScriptedApi({ script: echo(), apiKey: "sb-test.key" });
  await using world = await startTestNetwork({ "api.anthropic.com": api.origin });
  await using folder = await temporaryFolder();
  await using sandbox = await world.network.open({ kind: "allowlist", domains: ["api.anthropic.com"], cidrs: [] });
  const { stdout, stderr } = await runInside({ network: world.network, sandbox }, [claude, "-p", "good morning"], {
    HOME: folder.path,
    CLAUDE_CONFIG_DIR: folder.path,
    ANTHROPIC_API_KEY: "sb-test.key",
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
  });
  assert.match(stdout, /You said: good morning/, stderr);
  assert.ok(api.requests.length > 0);
});
