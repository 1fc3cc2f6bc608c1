import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { Secret } from "../src/secret.ts";

test("no conversion of a secret to text shows its value", () => {
  const secret = new Secret("sk-value");
  for (const text of [
    `${secret}`,
    String(secret),
    JSON.stringify({ secret }),
    inspect({ secret }, { showHidden: true }),
  ]) {
    assert.ok(text.includes("[secret]") && !text.includes("sk-value"), text);
  }
  assert.equal(secret.reveal(), "sk-value");
});

test("a secret is revealed only where it leaves the process or is searched for", () => {
  const src = join(import.meta.dirname, "../src");
  const callers = globSync("**/*.ts", { cwd: src }).filter((path) =>
    readFileSync(join(src, path), "utf8").includes(".reveal()"),
  );
  assert.deepEqual(callers.sort(), [
    "config/known-credentials.ts",
    "proxy/credentials.ts",
    "sandbox/local/local-sandbox.ts",
    "sandbox/modal/secrets.ts",
    "secret.ts",
    "session/agent-role.ts",
    "session/preflight.ts",
    "session/proxy-role.ts",
    "syncer/hub/hub-api.ts",
    "syncer/trackio-server.ts",
    "transfer/credential-search.ts",
  ]);
});
