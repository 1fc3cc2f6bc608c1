/**
 * A stand-in for a self-hosted trackio server, for the demo: it takes rows by trackio's HTTP API, version 1 (`server.py`,
 * `asgi_app.py` of trackio 0.43), and keeps them. It has no dashboard, takes no files, and is no place for real metrics.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { isObject, type Json, type JsonObject, parseJson, stringifyJson } from "./trackio-json.ts";
import { TrackioStore } from "./trackio-store.ts";

export interface TrackioServer extends AsyncDisposable {
  /** ends with a slash */
  readonly address: string;
  /** holds a `<project>.db` each */
  readonly folder: string;
}

/** of a request, in bytes; the syncer sends about one MiB, trackio's client up to a few */
const maxBytes = 16 * 1024 * 1024;

/** A refusal of the caller's making; any other error is answered with 500. */
class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

interface Api {
  parameters: readonly string[];
  run(parameters: JsonObject): unknown;
}

/** `folder` is made when it is missing. Whoever knows the token may write, and everybody on this machine may read. */
export async function startTrackioServer(options: { folder: string; writeToken: string }): Promise<TrackioServer> {
  const { folder, writeToken } = options;
  mkdirSync(folder, { recursive: true });
  const answer = answerer(new TrackioStore(folder), writeToken);
  const server = createServer(async (request, response) => {
    const [status, body]: [number, unknown] = await answer(request).then(
      (data) => [200, data],
      (thrown) => [thrown instanceof Refusal ? thrown.status : 500, { error: (thrown as Error).message }],
    );
    const json = stringifyJson(body);
    response.writeHead(status, { "content-type": "application/json" }).end(json);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    folder,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function answerer(store: TrackioStore, writeToken: string): (request: IncomingMessage) => Promise<unknown> {
  const apis = apisOf(store);
  return async (request) => {
    const { method } = request;
    const path = request.url?.split("?")[0] ?? "";
    if (method === "GET" && path === "/version") return version;
    if (!path.startsWith("/api/")) throw new Refusal(404, "Not Found");
    if (method !== "POST") throw new Refusal(405, "Method Not Allowed");
    const body = await bodyOf(request);
    const name = path.slice("/api/".length);
    const api = apis.get(name);
    if (!api) throw new Refusal(404, `Unknown API: ${name}`);
    const parameters = parametersOf(api, parseJson(body.toString()));
    const mayWrite = isEqual(request.headers["x-trackio-write-token"], writeToken);
    if (api.parameters.includes("hf_token") && !mayWrite) throw new Refusal(400, tokenWanted);
    return { data: api.run(parameters) ?? null };
  };
}

const version = { version: "0.43.0+demo", api_version: 1, writes_paused: false, api_transport: "http" };
const tokenWanted =
  "A write_token is required to log metrics or upload to this server. Use the write-access URL from trackio.show(), " +
  "set TRACKIO_WRITE_TOKEN, or send header X-Trackio-Write-Token.";

/** Those with `hf_token` write; the token itself counts on Spaces only. */
function apisOf(store: TrackioStore): ReadonlyMap<string, Api> {
  const listOf = (value: Json | undefined) => (Array.isArray(value) ? (value as Json[]) : fail("a list is expected"));
  const words = (value: Json | undefined) => (typeof value === "string" ? value : fail("a string is expected"));
  const api = (name: string, parameters: string[], run: Api["run"]) => [name, { parameters, run }] as const;
  return new Map([
    api("bulk_log", ["logs", "hf_token"], ({ logs }) => store.log(listOf(logs))),
    api("bulk_log_system", ["logs", "hf_token"], ({ logs }) => store.logSystem(listOf(logs))),
    api("bulk_alert", ["alerts", "hf_token"], ({ alerts }) => store.alert(listOf(alerts))),
    api("get_all_projects", [], () => store.projects()),
    api("get_runs_for_project", ["project"], ({ project }) => store.runs(words(project))),
    api("query_project", ["project", "query"], ({ project, query }) => store.query(words(project), words(query))),
  ]);
}

/** A call's parameters by their names, which is how all clients send them. */
function parametersOf(api: Api, body: Json | undefined): JsonObject {
  const named = isObject(body) && "kwargs" in body ? body["kwargs"] : body;
  const value = (name: string) => (isObject(named) ? named[name] : undefined);
  const missing = api.parameters.find((name) => value(name) === undefined);
  if (missing !== undefined) throw new Refusal(400, `Missing required parameter: ${missing}`);
  return isObject(named) ? named : {};
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes <= maxBytes) chunks.push(chunk);
  }
  if (bytes > maxBytes) throw new Refusal(413, `A request may have ${maxBytes} bytes.`);
  return Buffer.concat(chunks);
}

function isEqual(shown: string | readonly string[] | undefined, token: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return typeof shown === "string" && timingSafeEqual(digest(shown), digest(token));
}

function fail(message: string): never {
  throw new Error(message);
}
