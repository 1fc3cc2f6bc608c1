/** GitHub for tests: Debian's `git http-backend` behind Basic authentication, and a REST API that demands the same token. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

const backend = "/usr/lib/git-core/git-http-backend";

export interface GitServer extends AsyncDisposable {
  origin: string;
  /** method and path of each request whose token was right */
  served: string[];
  /** requests with a wrong token, or none */
  refused: string[];
}

/** Serves bare repositories, called "owner/name", below `folder`; the token is git's password and the API's bearer. */
export async function startGitServer(
  folder: string,
  token: string,
  repositories: readonly string[],
): Promise<GitServer> {
  for (const name of repositories) {
    const path = join(folder, `${name}.git`);
    mkdirSync(path, { recursive: true });
    execFileSync("git", ["init", "-q", "--bare", "-b", "main", path]);
    execFileSync("git", ["-C", path, "config", "http.receivepack", "true"]);
  }
  const basic = `Basic ${Buffer.from(`x-access-token:${token}`).toString("base64")}`;
  const served: string[] = [];
  const refused: string[] = [];
  const server = createServer((request, response) => {
    const line = `${request.method} ${request.url}`;
    const isRight = request.headers.authorization === basic || request.headers.authorization === `Bearer ${token}`;
    (isRight ? served : refused).push(line);
    if (!isRight) {
      response.writeHead(401, { "www-authenticate": 'Basic realm="GitHub"' }).end();
    } else if (request.url?.startsWith("/repos/") || request.url === "/graphql") {
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ asked: line }));
    } else {
      serveGit(folder, request, response);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    served,
    refused,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The common gateway interface: headers come in by the environment, and go out before an empty line. */
function serveGit(folder: string, request: IncomingMessage, response: ServerResponse): void {
  const [path = "", query = ""] = (request.url ?? "").split("?", 2);
  const child = spawn(backend, {
    env: {
      PATH: process.env["PATH"],
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: "1",
      REMOTE_USER: "agent",
      REQUEST_METHOD: request.method,
      PATH_INFO: path,
      QUERY_STRING: query,
      CONTENT_TYPE: request.headers["content-type"] ?? "",
      HTTP_CONTENT_ENCODING: String(request.headers["content-encoding"] ?? ""),
      GIT_PROTOCOL: String(request.headers["git-protocol"] ?? ""),
      // bare repositories made by this test, whoever runs it
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "safe.directory",
      GIT_CONFIG_VALUE_0: "*",
    },
    stdio: ["pipe", "pipe", "inherit"],
  });
  request.pipe(child.stdin);
  child.stdin.on("error", () => {});
  let head = Buffer.alloc(0);
  child.stdout.on("data", (chunk: Buffer) => {
    if (response.headersSent) {
      response.write(chunk);
      return;
    }
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end === -1) return;
    const fields = head.subarray(0, end).toString().split("\r\n");
    const headers = Object.fromEntries(fields.map((field) => field.split(/:\s*/, 2) as [string, string]));
    response.writeHead(Number(headers["Status"]?.slice(0, 3) ?? 200), headers).write(head.subarray(end + 4));
  });
  child.stdout.on("end", () => response.end());
}
