/** What a grant for GitHub opens, request by request; git and gh themselves run in test/e2e/github.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { githubApiUpstream, githubGitUpstream } from "../../src/proxy/upstreams/github.ts";
import { runningProxy, sandboxKey } from "./running-proxy.ts";

const open = (graphql = false) =>
  runningProxy({
    upstreams: (origin) => [githubGitUpstream(origin), githubApiUpstream(origin)],
    grant: { upstreams: { github: { repositories: { "acme/thesis": "write", "acme/library": "read" }, graphql } } },
  });

const basic = `Basic ${Buffer.from(`sandbox:${sandboxKey}`).toString("base64")}`;

type Case = readonly [method: string, path: string, outcome: number | string, body?: string];

const git: readonly Case[] = [
  ["GET", "/acme/thesis/info/refs?service=git-upload-pack", 200],
  ["GET", "/Acme/THESIS.git/info/refs?service=git-receive-pack", 200],
  ["POST", "/acme/thesis.git/git-receive-pack", 200],
  ["GET", "/acme/library/info/refs?service=git-upload-pack", 200],
  ["POST", "/acme/library/git-upload-pack", 200],
  ["POST", "/acme/library/info/lfs/objects/batch", 200, '{"operation":"download"}'],
  ["POST", "/acme/thesis/info/lfs/objects/batch", 200, '{"operation":"upload"}'],
  ["GET", "/acme/library/info/refs?service=git-receive-pack", "repository_not_granted"],
  ["POST", "/acme/library/git-receive-pack", "repository_not_granted"],
  ["POST", "/acme/library/info/lfs/objects/batch", "repository_not_granted", '{"operation":"upload"}'],
  ["POST", "/acme/library/info/lfs/objects/batch", "repository_not_granted", "{}"],
  ["POST", "/acme/library/info/lfs/objects/batch", "bad_request", '{"operation":"download","operation":"upload"}'],
  ["GET", "/acme/secret/info/refs?service=git-upload-pack", "repository_not_granted"],
  ["GET", "/constructor/prototype/info/refs?service=git-upload-pack", "repository_not_granted"],
  ["GET", "/acme/thesis/info/refs", "path_not_allowed"],
  ["GET", "/acme/thesis/info/refs?service=git-upload-pack&x=1", "path_not_allowed"],
  ["GET", "/acme/thesis/HEAD", "path_not_allowed"],
  ["GET", "/acme/thesis/archive/main.zip", "path_not_allowed"],
  ["GET", "/acme/thesis/../secret/info/refs?service=git-upload-pack", "path_not_allowed"],
  ["GET", "/acme/../info/refs?service=git-upload-pack", "path_not_allowed"],
  ["GET", "/acme/%77ork/info/refs?service=git-upload-pack", "path_not_allowed"],
  ["GET", "/acme/thesis%2f..%2fsecret/info/refs?service=git-upload-pack", "path_not_allowed"],
  ["GET", "/login/oauth/authorize", "path_not_allowed"],
  ["POST", "/acme/thesis/info/refs?service=git-upload-pack", "method_not_allowed"],
];

const api: readonly Case[] = [
  ["GET", "/repos/acme/thesis", 200],
  ["GET", "/repos/Acme/Library/contents/docs/a.md?ref=main", 200],
  ["POST", "/repos/acme/thesis/issues", 200, "{}"],
  ["POST", "/repos/acme/thesis/pulls", 200, "{}"],
  ["PATCH", "/repos/acme/thesis/git/refs/heads/main", 200, "{}"],
  ["PUT", "/repos/acme/thesis/contents/a", 200, "{}"],
  ["POST", "/repos/acme/library/issues", "repository_not_granted", "{}"],
  ["GET", "/repos/acme/secret", "repository_not_granted"],
  ["DELETE", "/repos/acme/thesis", "path_not_allowed"],
  ["PATCH", "/repos/acme/thesis", "path_not_allowed", "{}"],
  ["POST", "/repos/acme/thesis/transfer", "path_not_allowed", "{}"],
  ["PUT", "/repos/acme/thesis/collaborators/evil", "path_not_allowed", "{}"],
  ["POST", "/repos/acme/thesis/keys", "path_not_allowed", "{}"],
  ["POST", "/repos/acme/thesis/hooks", "path_not_allowed", "{}"],
  ["PUT", "/repos/acme/thesis/actions/secrets/X", "path_not_allowed", "{}"],
  ["POST", "/repos/acme/thesis/forks", "path_not_allowed", "{}"],
  ["GET", "/repos/acme/thesis/../secret", "path_not_allowed"],
  ["GET", "/repos/acme/thesis/%2e%2e/secret", "path_not_allowed"],
  ["GET", "/repos/acme/thesis%2fsecret", "path_not_allowed"],
  ["GET", "/repos/acme", "path_not_allowed"],
  ["GET", "/user", "path_not_allowed"],
  ["GET", "/user/repos", "path_not_allowed"],
  ["GET", "/repositories/1", "path_not_allowed"],
  ["POST", "/graphql", "path_not_allowed", "{}"],
  ["OPTIONS", "/repos/acme/thesis", "repository_not_granted"],
];

for (const [prefix, cases] of [
  ["/github.com", git],
  ["/api.github.com", api],
] as const) {
  test(`${prefix}: each request is answered as the grant says, and reaches GitHub by the granted name`, async () => {
    await using proxy = await open();
    for (const [method, path, outcome, body] of cases) {
      const before = proxy.arrived.length;
      const answer = await proxy.send({
        method,
        path: `${prefix}${path}`,
        headers: { authorization: prefix === "/github.com" ? basic : `token ${sandboxKey}` },
        body: body ?? "",
      });
      const got = answer.headers["x-modal-sb-reason"] ?? answer.status;
      if (outcome === "repository_not_granted" && method === "OPTIONS") assert.notEqual(answer.status, 200);
      else assert.equal(got, outcome, `${method} ${path}: ${answer.body}`);
      assert.equal(proxy.arrived.length - before, outcome === 200 ? 1 : 0);
    }
    for (const { headers, url } of proxy.arrived) {
      assert.match(String(headers.authorization), prefix === "/github.com" ? /^Basic / : /^Bearer /);
      assert.ok(!JSON.stringify(headers).includes(sandboxKey));
      if (prefix === "/github.com") assert.match(String(url), /^\/acme\/(thesis|library)\.git\//);
    }
  });
}

test("git is asked for its key by a challenge; GraphQL opens only when it is granted", async () => {
  await using proxy = await open(true);
  const path = "/github.com/acme/thesis/info/refs?service=git-upload-pack";
  const answer = await proxy.send({ method: "GET", path, headers: {} });
  assert.deepEqual([answer.status, answer.headers["www-authenticate"]], [401, 'Basic realm="modal-sb"']);
  const headers = { authorization: `token ${sandboxKey}` };
  assert.equal((await proxy.send({ path: "/api.github.com/graphql", headers, body: "{}" })).status, 200);
  assert.equal((await proxy.send({ method: "GET", path: "/api.github.com/graphql", headers })).status, 403);
});
