/** Plain git and gh in the sandbox, without a token inside: the proxy has it, and limits it to what was granted. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { Secret } from "../../src/secret.ts";
import { startGitServer } from "../helpers/git-server.ts";
import { runningSession, testKey } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

/** A session that may write to acme/thesis and read acme/library, and a way to run commands as claude does. */
async function githubSession() {
  const undo = new AsyncDisposableStack();
  const folder = undo.use(await temporaryFolder());
  const token = testKey().replace("sk-ant-test", "ghp");
  const server = undo.use(await startGitServer(folder.path, token, ["acme/thesis", "acme/library", "acme/secret"]));
  const running = undo.use(
    await runningSession({
      changes: {
        github: {
          token: new Secret(token),
          repositories: { "acme/thesis": "write", "acme/library": "read" },
          origin: server.origin,
          apiOrigin: server.origin,
        },
      },
    }),
  );
  return {
    ...{ running, server, token },
    /** What the command printed, by the agent's own tool. */
    bash: async (command: string) => {
      const before = running.events.length;
      await running.say(`!bash ${command}`);
      const ended = running.events.slice(before).find((event) => event.type === "tool_ended");
      return ended?.type === "tool_ended" ? ended.output : "";
    },
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}

const identity = "git config --global user.name a; git config --global user.email a@b.c;";

test("clone, commit, push and fetch work by GitHub's own addresses, and the sandbox holds no token", async () => {
  await using session = await githubSession();
  const { bash, server, token } = session;
  const pushed = await bash(
    `cd /app && ${identity} git clone https://github.com/acme/thesis one 2>&1 && cd one && echo hello > file && git add . && git commit -qm first && git push -q origin HEAD:main 2>&1 && echo PUSHED`,
  );
  assert.match(pushed, /PUSHED/);
  const fetched = await bash(
    "cd /app && git clone -q git@github.com:Acme/Thesis.git two 2>&1 && cat two/file && cd two && git fetch origin 2>&1 && git ls-remote ssh://git@github.com/acme/library 2>&1 && echo FETCHED",
  );
  assert.match(fetched, /hello[\s\S]*FETCHED/);
  assert.deepEqual(server.refused, [], "the proxy never sends a request without the token");
  const search = await bash(
    "env; cat /app/one/.git/config /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; git config --list --show-origin",
  );
  assert.ok(!search.includes(token));
});

test("what was not granted is refused: another repository, a push where only reading is granted", async () => {
  await using session = await githubSession();
  const { bash, server } = session;
  const other = await bash("cd /tmp && git clone https://github.com/acme/secret 2>&1; echo END");
  assert.match(other, /403[\s\S]*END/);
  const push = await bash(
    `cd /tmp && ${identity} git init -q x && cd x && git commit -q --allow-empty -m x && git push https://github.com/acme/library HEAD:main 2>&1; echo END`,
  );
  assert.match(push, /403[\s\S]*END/);
  assert.deepEqual(server.served, []);
});

test("gh api works on granted repositories, with no token but the sandbox key", {
  skip: existsSync("/usr/bin/gh") ? false : "gh is not installed: apt-get install gh",
}, async () => {
  await using session = await githubSession();
  const { bash, server } = session;
  assert.match(await bash("gh api repos/acme/thesis/issues"), /"GET \/repos\/acme\/thesis\/issues"/);
  assert.match(
    await bash("gh api -X POST repos/acme/thesis/issues -f title=x"),
    /"POST \/repos\/acme\/thesis\/issues"/,
  );
  assert.match(await bash("gh api repos/acme/secret/issues 2>&1; echo END"), /not granted[\s\S]*END/);
  assert.match(await bash("gh api user 2>&1; echo END"), /not allowed[\s\S]*END/);
  assert.match(
    await bash("gh api graphql -f query='{viewer{login}}' 2>&1; echo END"),
    /GraphQL is not granted[\s\S]*END/,
  );
  assert.deepEqual(server.refused, []);
  assert.equal(server.served.length, 2);
});
