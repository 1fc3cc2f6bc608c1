/** huggingface_hub from PyPI through the proxy, from a hub that demands the token and redirects large files. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { before, test } from "node:test";
import { promisify } from "node:util";
import { huggingFaceUpstream } from "../../src/proxy/upstreams/huggingface.ts";
import { installPackages, packagesFolder } from "../helpers/python-packages.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { type RunningProxy, runningProxy, sandboxKey } from "./running-proxy.ts";

const run = promisify(execFile);
const commit = "0123456789abcdef0123456789abcdef01234567";
const config = '{"model_type": "tiny"}';
const weights = Buffer.alloc(3_000_000, "w");
const etag = createHash("sha256").update(weights).digest("hex");

const packages = "huggingface_hub-2.4.0";
before(async () => {
  assert.equal(await installPackages(packages, ["huggingface_hub==2.4.0"]), undefined);
});

/** A hub with the model acme/private, whose small file comes from it and whose large one from another host. */
async function hub() {
  const undo = new AsyncDisposableStack();
  const serve = async (handler: (request: IncomingMessage, response: ServerResponse) => void) => {
    const server = createServer(handler).listen(0, "127.0.0.1");
    await once(server, "listening");
    undo.defer(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  };
  const cdnRequests: IncomingMessage[] = [];
  const cdn = await serve((request, response) => {
    cdnRequests.push(request);
    response.writeHead(200, { "content-length": weights.length, etag: `"${etag}"` }).end(weights);
  });
  const upstreamOrigin = () => `http://127.0.0.1:${(proxy.upstream.address() as AddressInfo).port}`;
  const hubHandler = (request: IncomingMessage, response: ServerResponse) => {
    if (request.headers.authorization !== `Bearer ${proxy.key}`) return response.writeHead(401).end();
    const path = request.url?.split("?")[0] ?? "";
    if (path === "/acme/old/resolve/main/config.json") {
      return response.writeHead(307, { location: "/acme/private/resolve/main/config.json" }).end();
    }
    if (path.startsWith("/api/models/acme/private/tree/")) {
      // one file a page: the next page is named by the hub's own address
      const isSecond = request.url?.includes("cursor=2") === true;
      const next = `<${upstreamOrigin()}${path}?recursive=true&cursor=2>; rel="next"`;
      const file = { type: "file", path: isSecond ? "model.bin" : "config.json", size: 1, oid: "0" };
      const headers = { "content-type": "application/json", ...(!isSecond && { link: next }) };
      return response.writeHead(200, headers).end(JSON.stringify([file]));
    }
    if (path.startsWith("/api/models/acme/private")) {
      const files = ["config.json", "model.bin"].map((rfilename) => ({ rfilename }));
      const body = {
        id: "acme/private",
        modelId: "acme/private",
        sha: commit,
        private: true,
        tags: [],
        siblings: files,
      };
      return response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
    }
    if (path.endsWith("/config.json")) {
      const size = Buffer.byteLength(config);
      const headers = {
        etag: '"c0ffee"',
        "x-repo-commit": commit,
        "content-length": size,
        "content-type": "text/plain",
      };
      return response.writeHead(200, headers).end(request.method === "HEAD" ? undefined : config);
    }
    return response
      .writeHead(302, {
        ...{ location: `${cdn}/signed?x=1`, "x-linked-etag": `"${etag}"`, "x-linked-size": weights.length },
        ...{ "x-repo-commit": commit, "x-xet-hash": "beef", link: '<https://huggingface.co/t>; rel="xet-auth"' },
      })
      .end();
  };
  const proxy: RunningProxy = undo.use(
    await runningProxy({
      handler: hubHandler,
      upstreams: (origin) => [huggingFaceUpstream(origin)],
      grant: { upstreams: { huggingface: { repositories: ["acme/private", "acme/old"] } } },
    }),
  );
  const python = async (code: string) => {
    const home = undo.use(await temporaryFolder()).path;
    const env = {
      ...{ PATH: process.env["PATH"], PYTHONPATH: packagesFolder(packages), HF_HOME: home, HOME: home },
      ...{ HF_ENDPOINT: `${proxy.origin}/huggingface.co`, HF_TOKEN: sandboxKey, HF_HUB_DISABLE_XET: "1" },
      HF_HUB_DISABLE_PROGRESS_BARS: "1",
    };
    return (await run("python3", ["-c", code], { env })).stdout.trim();
  };
  return { proxy, cdnRequests, python, [Symbol.asyncDispose]: () => undo.disposeAsync() };
}

test("a private model is downloaded: the hub gets the token, the host of the large file gets none", async () => {
  await using running = await hub();
  const { proxy, cdnRequests, python } = running;
  const printed = await python(`
from huggingface_hub import hf_hub_download, snapshot_download, model_info
print(open(hf_hub_download("acme/private", "config.json")).read())
print(len(open(hf_hub_download("acme/private", "model.bin"), "rb").read()))
print(sorted(s.rfilename for s in model_info("acme/private").siblings))
import os; print(sorted(os.listdir(snapshot_download("acme/private"))))
`);
  assert.deepEqual(printed.split("\n"), [
    config,
    String(weights.length),
    "['config.json', 'model.bin']",
    "['config.json', 'model.bin']",
  ]);
  assert.ok(cdnRequests.length > 0);
  for (const { headers } of cdnRequests) {
    assert.equal(headers.authorization, undefined);
    assert.ok(!JSON.stringify(headers).includes(proxy.key) && !JSON.stringify(headers).includes(sandboxKey));
  }
  assert.ok(proxy.arrived.every(({ headers }) => headers.authorization === `Bearer ${proxy.key}`));
});

test("a model that was renamed is found: the redirect leads back through the proxy", async () => {
  await using running = await hub();
  assert.equal(
    await running.python(
      'from huggingface_hub import *; print(open(hf_hub_download("acme/old", "config.json")).read())',
    ),
    config,
  );
});

test("what was not granted, and what is no reading, is refused", async () => {
  await using running = await hub();
  const { proxy } = running;
  for (const [method, path, reason] of [
    ["GET", "/acme/other/resolve/main/config.json", "repository_not_granted"],
    ["GET", "/api/models/acme/other", "repository_not_granted"],
    ["GET", "/api/datasets/acme/private", "repository_not_granted"],
    ["GET", "/api/models?search=x", "repository_not_granted"],
    ["GET", "/api/models/acme/private/xet-read-token/main", "path_not_allowed"],
    ["GET", "/api/models/acme/private/xet-write-token/main", "path_not_allowed"],
    ["GET", "/api/whoami-v2", "path_not_allowed"],
    ["POST", "/api/models/acme/private/commit/main", "path_not_allowed"],
    ["POST", "/api/models/acme/private/tree/main", "method_not_allowed"],
    ["DELETE", "/api/models/acme/private", "method_not_allowed"],
    ["POST", "/api/repos/create", "path_not_allowed"],
    ["GET", "/settings/tokens", "path_not_allowed"],
    ["GET", "/acme/private/resolve/../../../settings/tokens", "path_not_allowed"],
    ["GET", "/acme/private/resolve/main/%2e%2e/%2e%2e/x", "path_not_allowed"],
    ["GET", "/acme/private/resolve/a%2Fb/x", "path_not_allowed"],
  ] as const) {
    const answer = await proxy.send({ method, path: `/huggingface.co${path}` });
    assert.equal(answer.headers["x-modal-sb-reason"], reason, `${method} ${path}: ${answer.body}`);
  }
  assert.equal(proxy.arrived.length, 0);
  const answer = await proxy.send({
    method: "GET",
    path: "/huggingface.co/acme/private/resolve/refs%2Fpr%2F1/config.json",
  });
  assert.equal(answer.status, 200, answer.body);
});

test("a redirect that has the token in it passes without it", async () => {
  await using proxy = await runningProxy({
    handler: (incoming, response) =>
      response.writeHead(302, { location: `https://cdn.example/${incoming.headers.authorization?.slice(7)}` }).end(),
    upstreams: (origin) => [huggingFaceUpstream(origin)],
    grant: { upstreams: { huggingface: {} } },
  });
  const answer = await proxy.send({ method: "GET", path: "/huggingface.co/acme/x/resolve/main/f" });
  assert.match(String(answer.headers.location), /^https:\/\/cdn\.example\/\*+$/);
});
