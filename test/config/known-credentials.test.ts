import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { knownCredentials } from "../../src/config/known-credentials.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const found = (environment: Record<string, string>, home = "/nonexistent") =>
  Object.fromEntries([...knownCredentials(environment, home)].map(([label, secret]) => [label, secret.reveal()]));

test("variables with a credential's name count, paths, words and short values do not", () => {
  assert.deepEqual(
    found({
      HF_TOKEN: "hf_0123456789",
      OPENAI_API_KEY: "sk-0123456789",
      DB_PASSWORD: "p4ssw0rd!!",
      PIP_INDEX_URL: "https://user:s3cret-word@mirror/simple",
      SSH_AUTH_SOCK: "/run/ssh.sock",
      KEY_FILE: "/etc/key",
      TOKEN_KIND: "bearer-token",
      SHORT_TOKEN: "abc1",
      MONKEY: "banana-0123456",
      PATH: "/usr/bin",
    }),
    {
      HF_TOKEN: "hf_0123456789",
      OPENAI_API_KEY: "sk-0123456789",
      DB_PASSWORD: "p4ssw0rd!!",
      PIP_INDEX_URL: "s3cret-word",
    },
  );
});

test("credentials of the usual files count, each value once", async () => {
  await using home = await temporaryFolder();
  const files: Record<string, string> = {
    ".cache/huggingface/token": "hf_abcdefghij\n",
    ".config/gh/hosts.yml": "github.com:\n    oauth_token: gho_abcdefghij\n    user: me\n",
    ".git-credentials": "https://me:ghp_abcdefghij@github.com\n",
    ".modal.toml": '[default]\ntoken_id = "ak-1"\ntoken_secret = "as-abcdefghij"\n',
    ".aws/credentials": "[default]\naws_secret_access_key = wJalrXUtnFEMI\n",
    ".netrc": "machine x login me password netrc-pass\n",
    ".npmrc": "//x/:_authToken=npm_abcdefghij\n",
    ".claude/.credentials.json": '{"claudeAiOauth":{"accessToken":"sk-ant-oat-abc"}}',
    ".docker/config.json": '{"auths":{"x":{"auth":"dXNlcjpwYXNz"}}}',
  };
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(home.path, name)), { recursive: true });
    await writeFile(join(home.path, name), content);
  }
  const values = Object.values(found({ HF_TOKEN: "hf_abcdefghij" }, home.path));
  assert.deepEqual(values.sort(), [
    "as-abcdefghij",
    "dXNlcjpwYXNz",
    "gho_abcdefghij",
    "ghp_abcdefghij",
    "hf_abcdefghij",
    "netrc-pass",
    "npm_abcdefghij",
    "sk-ant-oat-abc",
    "wJalrXUtnFEMI",
  ]);
});
