/** The account of Modal: its credentials, the package that uses them, and what doctor says. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { strangenessOf, strangeSdk } from "../../../src/sandbox/modal/sdk.ts";
import { createProvider } from "../../../src/sandbox/sandbox.ts";
import { freePort } from "../../helpers/free-port.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { needsEmulator, openScene } from "./open-modal.ts";

test("doctor hears that the account answers, and where sandboxes will be", async (context: TestContext) => {
  if (!(await needsEmulator(context))) return;
  await using scene = await openScene({ secrets: { there: { KEY: "x" } } });
  const requirements = await scene.provider.requirements([
    { storedAs: "there", key: "KEY" },
    { storedAs: "there", key: "OTHER" },
  ]);
  assert.deepEqual(
    requirements.map(({ name, state, remedy }) => [name, state, remedy]),
    [
      ["Modal's SDK", "ok", undefined],
      ["Modal account", "ok", undefined],
      ["Modal Secret there", "ok", undefined],
      ["Modal Secret there", "missing", "modal secret create there OTHER=…"],
    ],
  );
  assert.match(requirements[1]?.detail ?? "", /app "modal-sb" in the environment "main"/);
});

test("without credentials, doctor and create say how to get them", async () => {
  await using folder = await temporaryFolder();
  const hostEnvironment = { MODAL_SERVER_URL: "http://127.0.0.1:1", MODAL_CONFIG_PATH: "/nowhere" };
  await using provider = await createProvider("modal", { stateFolder: folder.path, hostEnvironment });
  const [, account] = await provider.requirements();
  assert.equal(account?.state, "missing");
  assert.match(account?.remedy ?? "", /modal token new.*MODAL_TOKEN_ID/);
  await assert.rejects(provider.list(), { name: "ConfigError", hint: /modal token new/ });
  const halves = { MODAL_TOKEN_ID: "ak-half", MODAL_OAUTH_REFRESH_TOKEN: "half", MODAL_OAUTH_CLIENT_ID: "half" };
  for (const [name, value] of Object.entries(halves)) {
    const environment = { ...hostEnvironment, [name]: value };
    await using other = await createProvider("modal", { stateFolder: folder.path, hostEnvironment: environment });
    await assert.rejects(other.list(), { name: "ConfigError", message: /no usable credentials/ }, name);
  }
});

test("the credentials of the provider's own environment are used, not the process's; no error holds them", async () => {
  await using folder = await temporaryFolder();
  process.env["MODAL_TOKEN_ID"] = "ak-of-the-process";
  const hostEnvironment = {
    MODAL_SERVER_URL: `http://127.0.0.1:${await freePort()}`,
    MODAL_TOKEN_ID: "ak-given",
    MODAL_TOKEN_SECRET: "as-canary",
  };
  await using provider = await createProvider("modal", { stateFolder: folder.path, hostEnvironment });
  const error: unknown = await provider.list().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.match(String(error), /could not be reached/);
  const { inspect } = await import("node:util");
  assert.doesNotMatch(inspect(error, { depth: 20 }), /as-canary/);
  assert.equal(process.env["MODAL_TOKEN_ID"], "ak-of-the-process");
  assert.equal(process.env["MODAL_TOKEN_SECRET"] === "as-canary", false);
});

test("another package named modal is not used, nor another version", () => {
  const repository = { type: "git", url: "git+https://github.com/modal-labs/modal-client.git" };
  assert.equal(strangeSdk(), undefined);
  assert.equal(strangenessOf({ name: "modal", version: "0.11.1", repository }), undefined);
  assert.match(strangenessOf({ name: "modal", version: "0.11.2", repository }) ?? "", /version 0\.11\.2/);
  const others = ["git+https://github.com/bengourley/modal.js.git", "https://evil.example/github.com/modal-labs/"];
  for (const url of [...others, undefined])
    assert.match(strangenessOf({ name: "modal", version: "0.11.1", repository: { url } }) ?? "", /not Modal's/);
});

test("a local provider does not load Modal's SDK", async () => {
  const { spawnSync } = await import("node:child_process");
  await using folder = await temporaryFolder();
  const program = `
    const { createProvider } = await import(${JSON.stringify(import.meta.resolve("../../../src/sandbox/sandbox.ts"))});
    const { registerHooks } = await import("node:module");
    registerHooks({ load(url, context, next) { if (/node_modules.modal/.test(url)) console.log("loaded", url); return next(url, context); } });
    const provider = await createProvider("local", { stateFolder: ${JSON.stringify(folder.path)}, hostEnvironment: process.env });
    await provider[Symbol.asyncDispose]();
    console.log("done");
  `;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  assert.equal(stdout, "done\n");
});
