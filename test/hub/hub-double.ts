/**
 * A double of the Hugging Face Hub for Spaces and buckets: what cannot be reached from here. Its shapes are those of
 * huggingface_hub 2.4.0 (hf_api.py, _buckets.py), which drives it in its own test. The files of a bucket lie in a folder,
 * which is what a Space sees at its mount. A call that it does not know fails the test at its disposal.
 */
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join, normalize } from "node:path";
import { buffer } from "node:stream/consumers";
import { ContentStore } from "./content-store.ts";

export interface HubSpace {
  id: string;
  sdk: string;
  visibility: string;
  files: Record<string, string>;
  variables: Record<string, string>;
  secrets: string[];
  volumes: { type: string; source: string; mountPath: string }[];
  stage: string;
  /** undefined: made of its name */
  subdomain?: string;
}

interface SeenRequest {
  method: string;
  path: string;
  authorization: string | undefined;
}

interface Answer {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

/** Asked before the double itself; an answer takes its place, `cut` ends the connection after it has done its work. */
type Interception = (request: SeenRequest) => Answer | "cut" | undefined;

export interface HubDouble extends AsyncDisposable {
  url: string;
  /** where contents are uploaded: another origin, as on the Hub */
  casUrl: string;
  spaces: Map<string, HubSpace>;
  /** true: private */
  buckets: Map<string, boolean>;
  requests: SeenRequest[];
  intercept: Interception | undefined;
  /** where the files of a bucket lie */
  bucketFolder(id: string): string;
}

interface Options {
  folder: string;
  token: string;
  /** user names and organisations that the token may write to */
  owners: readonly string[];
}

const xetToken = "short-lived-token-of-the-storage";
const id = "([\\w.-]+/[\\w.-]+)";

export async function startHubDouble({ folder, token, owners }: Options): Promise<HubDouble> {
  const state = new State(folder, owners);
  const unexpected: string[] = [];
  const requests: SeenRequest[] = [];
  const hub = await listen(async (request, body) => {
    const seen = seenOf(request);
    requests.push(seen);
    const instead = double.intercept?.(seen);
    if (typeof instead === "object") return instead;
    const answer = hubAnswer(state, seen, body, token, double.casUrl);
    if (!answer) unexpected.push(`${seen.method} ${seen.path}`);
    return instead ?? answer ?? { status: 501, body: { error: "the double does not know this call" } };
  });
  state.url = hub.url;
  const cas = await listen(async (request, body) => {
    const seen = seenOf(request);
    requests.push({ ...seen, path: `cas:${seen.path}` });
    const answer = casAnswer(state.contents, seen, body);
    if (!answer) unexpected.push(`cas: ${seen.method} ${seen.path}`);
    return answer ?? { status: 501 };
  });
  const double: HubDouble = {
    ...{ url: hub.url, casUrl: cas.url, requests, intercept: undefined },
    ...{ spaces: state.spaces, buckets: state.buckets },
    bucketFolder: (name) => state.folderOf(name),
    async [Symbol.asyncDispose]() {
      await Promise.all([hub.close(), cas.close()]);
      if (unexpected.length > 0) throw new Error(`unexpected calls: ${unexpected.join(", ")}`);
    },
  };
  return double;
}

class State {
  readonly spaces = new Map<string, HubSpace>();
  readonly buckets = new Map<string, boolean>();
  readonly contents = new ContentStore();
  readonly owners: readonly string[];
  url = "";
  readonly #folder: string;

  constructor(folder: string, owners: readonly string[]) {
    this.#folder = folder;
    this.owners = owners;
  }

  folderOf(bucket: string): string {
    return join(this.#folder, bucket);
  }

  /** Undefined for a path that leads out of the bucket. */
  pathOf(bucket: string, path: string): string | undefined {
    return normalize(path) === path && !path.startsWith("..") && !path.startsWith("/")
      ? join(this.folderOf(bucket), path)
      : undefined;
  }
}

type Route = (state: State, match: readonly string[], body: Buffer, query: URLSearchParams) => Answer;

const routes: [method: string, path: RegExp, route: Route][] = [
  ["POST", /^\/api\/repos\/create$/, createRepo],
  ["GET", new RegExp(`^/api/spaces/${id}(?:/revision/HEAD)?$`), (state, [name = ""]) => spaceAnswer(state, name)],
  ["GET", new RegExp(`^/api/spaces/${id}/runtime$`), (state, [name = ""]) => runtimeAnswer(state, name)],
  ["GET", new RegExp(`^/api/spaces/${id}/auth-check/write$`), (state, [name = ""]) => spaceAnswer(state, name)],
  ["GET", new RegExp(`^/spaces/${id}/raw/main/(.+)$`), rawFile],
  ["POST", new RegExp(`^/api/buckets/${id}$`), createBucket],
  ["GET", new RegExp(`^/api/buckets/${id}$`), (state, [name = ""]) => bucketAnswer(state, name)],
  ["GET", new RegExp(`^/api/buckets/${id}/tree(?:/(.*))?$`), tree],
  ["POST", new RegExp(`^/api/buckets/${id}/batch$`), batch],
];

function hubAnswer(
  state: State,
  { method, path, authorization }: SeenRequest,
  body: Buffer,
  token: string,
  casUrl: string,
): Answer | undefined {
  const url = new URL(path, "http://hub");
  if (authorization !== `Bearer ${token}`) {
    return { status: 401, body: { error: "Invalid username or password." } };
  }
  const grant = new RegExp(`^/api/buckets/${id}/xet-(?:write|read)-token$`).exec(url.pathname);
  if (grant) {
    if (!state.buckets.has(grant[1] ?? "")) return notFound();
    const exp = Math.floor(Date.now() / 1000) + 3600;
    const [access, expiry] = [xetToken, String(exp)];
    return {
      status: 200,
      body: { accessToken: access, casUrl, exp },
      headers: { "x-xet-access-token": access, "x-xet-cas-url": casUrl, "x-xet-token-expiration": expiry },
    };
  }
  for (const [ofMethod, pattern, route] of routes) {
    const match = ofMethod === method ? pattern.exec(url.pathname) : null;
    if (match)
      return route(
        state,
        match.slice(1).map((part) => decodeURIComponent(part ?? "")),
        body,
        url.searchParams,
      );
  }
  return undefined;
}

function createRepo(state: State, _match: readonly string[], body: Buffer): Answer {
  const asked = JSON.parse(body.toString()) as Record<string, unknown>;
  const { type, organization, name, sdk, visibility = "public" } = asked;
  const owner = String(organization ?? state.owners[0]);
  const spaceId = `${owner}/${name}`;
  if (type !== "space") return { status: 400, body: { error: "only Spaces are made here" } };
  if (!state.owners.includes(owner)) {
    return {
      status: 403,
      body: { error: `You don't have the rights to create a space under the namespace "${owner}"` },
    };
  }
  if (state.spaces.has(spaceId)) {
    return { status: 409, body: { error: "You already created this space repo" } };
  }
  const pairs = (list: unknown) =>
    Object.fromEntries(((list ?? []) as { key: string; value: string }[]).map(({ key, value }) => [key, value]));
  const files = ((asked["files"] ?? []) as { path: string; encoding: "base64"; content: string }[]).map(
    ({ path, encoding, content }): [string, string] => [path, Buffer.from(content, encoding).toString()],
  );
  const volumes = (asked["volumes"] ?? []) as HubSpace["volumes"];
  const missing = volumes.find(({ source }) => !state.buckets.has(source));
  if (missing) return { status: 400, body: { error: `There is no bucket ${missing.source}` } };
  state.spaces.set(spaceId, {
    ...{ id: spaceId, sdk: String(sdk), visibility: String(visibility), files: Object.fromEntries(files) },
    ...{ variables: pairs(asked["variables"]), secrets: Object.keys(pairs(asked["secrets"])) },
    ...{ volumes, stage: "BUILDING" },
  });
  return { status: 200, body: { url: `${state.url}/spaces/${spaceId}`, id: "0", name: spaceId } };
}

function spaceAnswer(state: State, name: string): Answer {
  const space = state.spaces.get(name);
  if (!space) return notFound();
  const tags = /^tags:\n((?: ?- .*\n)*)/m.exec(space.files["README.md"] ?? "")?.[1] ?? "";
  return {
    status: 200,
    body: {
      ...{ _id: "0", id: name, author: name.split("/")[0], sdk: space.sdk, likes: 0, lastModified: new Date() },
      ...{ private: space.visibility === "private", tags: [...tags.matchAll(/- (.*)/g)].map(([, tag]) => tag) },
      ...{ runtime: runtimeOf(space), siblings: [], subdomain: space.subdomain ?? subdomainOf(space.id) },
    },
  };
}

function runtimeAnswer(state: State, name: string): Answer {
  const space = state.spaces.get(name);
  return space ? { status: 200, body: runtimeOf(space) } : notFound();
}

function runtimeOf({ stage, volumes }: HubSpace): object {
  return { stage, hardware: { current: null, requested: "cpu-basic" }, storage: null, gcTimeout: 172800, volumes };
}

function rawFile(state: State, [name = "", path = ""]: readonly string[]): Answer {
  const text = state.spaces.get(name)?.files[path];
  return text === undefined ? notFound() : { status: 200, body: text };
}

function createBucket(state: State, [name = ""]: readonly string[], body: Buffer): Answer {
  const { visibility } = JSON.parse(body.toString()) as { visibility?: string };
  const owner = name.split("/")[0] ?? "";
  if (!state.owners.includes(owner)) {
    return { status: 403, body: { error: `You don't have the rights to create a bucket under "${owner}"` } };
  }
  const url = `${state.url}/buckets/${name}`;
  if (state.buckets.has(name)) return { status: 409, body: { error: "This bucket already exists", url } };
  state.buckets.set(name, visibility === "private");
  mkdirSync(state.folderOf(name), { recursive: true });
  return { status: 200, body: { url, id: "0", name } };
}

function bucketAnswer(state: State, name: string): Answer {
  const isPrivate = state.buckets.get(name);
  if (isPrivate === undefined) return notFound();
  return { status: 200, body: { id: name, private: isPrivate, createdAt: new Date(), size: 0, totalFiles: 0 } };
}

function tree(
  state: State,
  [name = "", folder = ""]: readonly string[],
  _body: Buffer,
  query: URLSearchParams,
): Answer {
  if (!state.buckets.has(name)) return notFound();
  const root = state.pathOf(name, folder === "" ? "." : folder);
  if (root === undefined || !existsSync(root)) return { status: 200, body: [] };
  const entries: object[] = [];
  const walk = (below: string) => {
    for (const entry of readdirSync(join(state.folderOf(name), below), { withFileTypes: true })) {
      const path = join(below, entry.name);
      if (entry.isDirectory()) {
        entries.push({ type: "directory", path, uploadedAt: new Date() });
        if (query.get("recursive")?.toLowerCase() === "true") walk(path);
      } else {
        const { size, mtime } = statSync(join(state.folderOf(name), path));
        entries.push({ type: "file", path, size, xetHash: "0".repeat(64), mtime, uploadedAt: mtime });
      }
    }
  };
  walk(folder);
  return { status: 200, body: entries };
}

/** A file appears whole: a Space may be reading the folder. */
function batch(state: State, [name = ""]: readonly string[], body: Buffer): Answer {
  if (!state.buckets.has(name)) return notFound();
  const failed: object[] = [];
  const lines = body.toString().split("\n").filter(Boolean);
  for (const line of lines) {
    const { type, path, xetHash = "" } = JSON.parse(line) as { type: string; path: string; xetHash?: string };
    const place = state.pathOf(name, path);
    const content = state.contents.file(xetHash);
    if (place !== undefined && type === "addFile" && content) {
      mkdirSync(dirname(place), { recursive: true });
      writeFileSync(place, content);
    } else if (place !== undefined && type === "deleteFile") {
      rmSync(place, { force: true });
    } else {
      failed.push({ path, error: "its content is not there" });
    }
  }
  const processed = lines.length;
  const result = { success: failed.length === 0, processed, succeeded: processed - failed.length, failed };
  return { status: failed.length === processed && processed > 0 ? 422 : 200, body: result };
}

function casAnswer(
  contents: ContentStore,
  { method, path, authorization }: SeenRequest,
  body: Buffer,
): Answer | undefined {
  if (authorization !== `Bearer ${xetToken}`) return { status: 401 };
  if (method === "GET" && path.startsWith("/v1/chunks/")) return { status: 404 };
  const [, xorb] = /^\/v1\/xorbs\/default\/([0-9a-f]{64})$/.exec(path) ?? [];
  if (method === "POST" && xorb !== undefined) {
    contents.addXorb(xorb, body);
    return { status: 200, body: { was_inserted: true } };
  }
  if (method === "POST" && path === "/v1/shards") {
    contents.addShard(body);
    return { status: 200, body: { result: 1 } };
  }
  return undefined;
}

function notFound(): Answer {
  return { status: 404, body: { error: "Repository not found" } };
}

function seenOf({ method = "", url = "", headers }: IncomingMessage): SeenRequest {
  return { method, path: url, authorization: headers.authorization };
}

async function listen(answerTo: (request: IncomingMessage, body: Buffer) => Promise<Answer | "cut">) {
  const server = createServer(async (request, response) => {
    try {
      const answer = await answerTo(request, await buffer(request));
      if (answer === "cut") return request.socket.destroy();
      const { status, body, headers } = answer;
      const isText = typeof body === "string";
      response.writeHead(status, { "content-type": isText ? "text/plain" : "application/json", ...headers });
      response.end(isText ? body : JSON.stringify(body ?? {}));
    } catch (error) {
      response.writeHead(500).end(JSON.stringify({ error: String(error) }));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
export function fileIn(double: HubDouble, bucket: string, path: string): string {
  return readFileSync(join(double.bucketFolder(bucket), path), "latin1");
}

function subdomainOf(spaceId: string): string {
  return spaceId.toLowerCase().replace(/[/_.]/g, "-");
}
