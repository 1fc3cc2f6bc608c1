/**
 * The sandbox's door to the internet: an HTTP proxy (CONNECT, and plain http) on a unix socket of the host. It alone
 * resolves names, and connects to the very address that it has checked.
 */
import { lookup } from "node:dns/promises";
import { chmod } from "node:fs/promises";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { type Duplex, pipeline } from "node:stream";
import type { EgressPolicy } from "../provider.ts";
import { isPublicAddress } from "./address-rules.ts";
import { decideEgress } from "./egress-policy.ts";
import type { Endpoint } from "./package-indexes.ts";

const connectTimeoutMs = 20_000;

export interface EgressFilterOptions {
  socketPath: string;
  policy: EgressPolicy;
  trusted: readonly Endpoint[];
}

/** Why a connection was refused, in words for the agent. */
class EgressRefusal extends Error {
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Listens until disposed; disposal ends every connection. */
export async function startEgressFilter(options: EgressFilterOptions): Promise<AsyncDisposable> {
  const sockets = new Set<Duplex>();
  const server = createServer({ maxHeaderSize: 16 * 1024, requestTimeout: 0, headersTimeout: 10_000 });
  server.on("connection", (socket) => remember(sockets, socket));
  server.on("connect", (incoming, client, head) => void tunnel(options, sockets, incoming, client, head));
  server.on("upgrade", (_incoming, socket) => socket.destroy());
  server.on("request", (incoming, response) => void forwardPlain(options, incoming, response));
  await listen(server, options.socketPath);
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  // the sandbox's user may be another one; the folder above decides who reaches the socket
  await chmod(path, 0o666);
}

async function tunnel(
  options: EgressFilterOptions,
  sockets: Set<Duplex>,
  incoming: IncomingMessage,
  client: Duplex,
  head: Buffer,
) {
  client.on("error", () => client.destroy());
  try {
    const upstream = await dial(options, parseAuthority(incoming.url ?? ""));
    remember(sockets, upstream);
    client.write("HTTP/1.1 200 Connection established\r\n\r\n");
    if (head.length > 0) upstream.write(head);
    pipeline(client, upstream, () => upstream.destroy());
    pipeline(upstream, client, () => client.destroy());
  } catch (error) {
    const { status, reason, text } = describe(error);
    client.end(
      `HTTP/1.1 ${status}\r\ncontent-type: text/plain\r\nx-modal-sb-reason: ${reason}\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
    );
  }
}

async function forwardPlain(options: EgressFilterOptions, incoming: IncomingMessage, response: ServerResponse) {
  try {
    if (!URL.canParse(incoming.url ?? ""))
      throw new EgressRefusal("not_a_proxy_request", "ask for an absolute http:// address");
    const url = new URL(incoming.url as string);
    if (url.protocol !== "http:") throw new EgressRefusal("scheme_not_allowed", "use CONNECT for anything but http");
    const socket = await dial(options, { hostname: url.hostname, port: Number(url.port || 80) });
    const { "proxy-connection": _hop, "proxy-authorization": _credential, ...headers } = incoming.headers;
    const upstream = request({
      createConnection: () => socket,
      method: incoming.method,
      path: url.pathname + url.search,
      headers: { ...headers, host: url.host, connection: "close" },
    });
    upstream.on("response", (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      pipeline(answer, response, () => socket.destroy());
    });
    upstream.on("error", () => response.destroy());
    response.on("close", () => socket.destroy());
    pipeline(incoming, upstream, () => {});
  } catch (error) {
    const { status, reason, text } = describe(error);
    response.writeHead(Number.parseInt(status, 10), {
      "content-type": "text/plain",
      "x-modal-sb-reason": reason,
      connection: "close",
    });
    response.end(text);
  }
}

/** Connects to an allowed endpoint, by an address that was checked, or throws an EgressRefusal. */
async function dial(options: EgressFilterOptions, endpoint: Endpoint): Promise<Socket> {
  const decision = decideEgress(options.policy, options.trusted, endpoint);
  if (!decision.allow) throw new EgressRefusal(decision.reason, decision.message);
  const addresses = await lookup(endpoint.hostname.replace(/^\[|\]$/g, ""), { all: true });
  const usable = addresses.find(({ address }) => decision.private || isPublicAddress(address));
  if (!usable) {
    throw new EgressRefusal(
      "address_not_public",
      `"${endpoint.hostname}" leads to a private address, which is refused`,
    );
  }
  const socket = connect({ host: usable.address, port: endpoint.port, family: usable.family });
  socket.setTimeout(connectTimeoutMs, () => socket.destroy(new Error("no answer")));
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  socket.setTimeout(0);
  socket.on("error", () => socket.destroy());
  return socket;
}

function parseAuthority(authority: string): Endpoint {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:/?#@\s]+):(\d{1,5})$/.exec(authority);
  if (!match) throw new EgressRefusal("bad_request", "ask as CONNECT hostname:port");
  return { hostname: match[1] as string, port: Number(match[2]) };
}

function describe(error: unknown): { status: string; reason: string; text: string } {
  if (error instanceof EgressRefusal) {
    return { status: "403 Forbidden", reason: error.reason, text: `modal-sb egress filter: ${error.message}\n` };
  }
  const text = "modal-sb egress filter: the host could not be reached\n";
  return { status: "502 Bad Gateway", reason: "unreachable", text };
}

function remember(sockets: Set<Duplex>, socket: Duplex): void {
  sockets.add(socket);
  socket.once("close", () => sockets.delete(socket));
}
