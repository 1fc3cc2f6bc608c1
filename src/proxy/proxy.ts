/** The credential proxy: fixed upstreams, never a forward proxy. Sandboxes come in by the one door, the host by the other. */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { Audit, type AuditEntry } from "./audit.ts";
import { Budget, type BudgetNotice } from "./budget.ts";
import { Connections } from "./connections.ts";
import { openControl } from "./control.ts";
import type { Credentials } from "./credentials.ts";
import { Gate, type Notice } from "./gate.ts";
import { Grants } from "./grants.ts";
import { Ledger } from "./ledger.ts";
import { Pace } from "./pace.ts";
import type { Prices } from "./prices.ts";
import { defaultTimeouts, type Timeouts } from "./timeouts.ts";
import type { Upstream } from "./upstreams/upstream.ts";

/** A door for sandboxes: a unix socket's path, or "127.0.0.1:8080". */
export interface Door {
  at: string;
  /** put before every path that comes in by it, for clients that cannot be given a path of their own; "" for none */
  prefix: string;
}

export interface ProxyOptions {
  doors: readonly Door[];
  /** unix socket for the host */
  controlPath: string;
  /** where the audit log and the ledger are kept */
  dataFolder: string;
  upstreams: readonly Upstream[];
  credentials: Credentials;
  prices: Prices;
  /** milliseconds of an event stream's silence after which a ping is sent; 0: never */
  pingMs: number;
  /** where sandboxes find the proxy, e.g. "http://modal-sb-proxy:8080"; "": not known yet, the host tells it later */
  publicOrigin: string;
  /** true: others read the ledger while this process writes to it */
  sharedDatabases?: boolean;
  timeouts?: Timeouts;
}

export interface RunningProxy extends AsyncDisposable {
  /** Refuses what is new, waits for what runs until `deadlineMs` is over, and ends. */
  stop(deadlineMs: number): Promise<void>;
}

/** What `follow` on the control socket tells. */
type ProxyEvent =
  | { event: "audit"; entry: AuditEntry }
  | ({ event: "notice" } & (Notice | ({ kind: "budget" } & BudgetNotice)));

/** claude keeps a connection for the next turn */
const keepAliveMs = 120_000;
const maxConnections = 4096;
const maxHeaderBytes = 32 * 1024;

/** Listens at all doors; socket files left by a dead proxy are replaced. Disposal aborts what is running. */
export async function startProxy(options: ProxyOptions): Promise<RunningProxy> {
  const { timeouts = defaultTimeouts } = options;
  const followers = new Set<(event: ProxyEvent) => void>();
  const tell = (event: ProxyEvent) => {
    for (const follower of followers) follower(event);
  };
  const ledger = new Ledger(join(options.dataFolder, "ledger.db"), options.sharedDatabases);
  const audit = new Audit(join(options.dataFolder, "audit.ndjson"), (entry) => tell({ event: "audit", entry }));
  const grants = new Grants(ledger);
  const pace = new Pace();
  const connections = new Connections(timeouts);
  const budget = new Budget(ledger, options.prices, (notice) => tell({ event: "notice", kind: "budget", ...notice }));
  const state = { stopping: false, refusedCredentials: new Set<string>(), publicOrigin: options.publicOrigin };
  const gate = new Gate({
    ...options,
    ...{ connections, grants, ledger, budget, pace, audit, timeouts },
    publicOrigin: () => state.publicOrigin,
    onNotice: (notice) => {
      if (notice.kind === "credential_refused") state.refusedCredentials.add(notice.name);
      tell({ event: "notice", ...notice });
    },
  });
  const serve = (incoming: IncomingMessage, response: ServerResponse) => {
    if (incoming.method === "GET" && incoming.url === "/healthz") return answerHealth(response, state.stopping);
    gate.serve(incoming, response, state.stopping).catch((error: unknown) => {
      // a bug of ours; its message could quote the request, where it happened cannot
      const where = error instanceof Error ? error.stack?.match(/^ +at .*/m)?.[0] : undefined;
      process.stderr.write(`a request failed in the proxy itself${where ?? ""}\n`);
      response.destroy();
    });
  };
  const servers = await Promise.all(options.doors.map((door) => listen(door, serve, timeouts.headersMs)));
  const control = await openControl(options.controlPath, {
    ...{ grants, ledger, pace, credentials: options.credentials },
    status: () => ({
      grants: grants.count,
      credentialRefused: [...state.refusedCredentials],
      stopping: state.stopping,
      residentBytes: process.memoryUsage.rss(),
    }),
    onRotated: () => state.refusedCredentials.clear(),
    serveAt: (origin) => {
      state.publicOrigin = origin;
    },
    follow: (listener) => {
      followers.add(listener);
      return () => followers.delete(listener);
    },
  });
  let ended: Promise<void> | undefined;
  const end = () => {
    ended ??= (async () => {
      state.stopping = true;
      grants.endAll("stopped");
      await control[Symbol.asyncDispose]();
      await Promise.all(servers.map(closeServer));
      await connections.close();
      grants.close();
      ledger.close();
      audit.close();
    })();
    return ended;
  };
  return {
    async stop(deadlineMs) {
      state.stopping = true;
      for (const server of servers) server.closeIdleConnections();
      await pace.idle(deadlineMs);
      await end();
    },
    [Symbol.asyncDispose]: end,
  };
}

type Serve = (incoming: IncomingMessage, response: ServerResponse) => void;

async function listen({ at, prefix }: Door, serve: Serve, headersMs: number): Promise<Server> {
  const server = createServer(
    {
      keepAliveTimeout: keepAliveMs,
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: headersMs,
      requestTimeout: 0,
      connectionsCheckingInterval: Math.min(5_000, headersMs),
    },
    (incoming, response) => {
      incoming.url = `${prefix}${incoming.url}`;
      serve(incoming, response);
    },
  );
  server.maxConnections = maxConnections;
  // what is not HTTP gets a short answer without a word of what came
  server.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    else socket.destroy();
  });
  const [, host, port] = /^(\d+\.\d+\.\d+\.\d+):(\d+)$/.exec(at) ?? [];
  if (host === undefined) rmSync(at, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    if (host === undefined) server.listen({ path: at, backlog: maxConnections }, resolve);
    else server.listen({ port: Number(port), host, backlog: maxConnections }, resolve);
  });
  // the sandboxes' processes run as other users
  if (host === undefined) chmodSync(at, 0o666);
  return server;
}

async function closeServer(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}

/** For whoever watches over the process: it says nothing else. */
function answerHealth(response: ServerResponse, stopping: boolean): void {
  const body = JSON.stringify({ status: stopping ? "stopping" : "ok" });
  response.writeHead(stopping ? 503 : 200, {
    "content-type": "application/json",
    "content-length": body.length,
    // whoever only looks does not keep a connection
    connection: "close",
  });
  response.end(body);
}
