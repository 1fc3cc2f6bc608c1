import { mkdir, rm, writeFile } from "node:fs/promises";
import type { Server, Socket } from "node:net";
import { join } from "node:path";
import type { Certificates } from "./certificates.ts";
import { answerConnections, answerDatagrams } from "./dns.ts";
import type { Internet } from "./internet.ts";
import { addNamespace, deleteNamespace, internetAddress, pathOf } from "./namespaces.ts";
import type { NetworkPolicy } from "./policy.ts";
import type { SocketBroker } from "./socket-broker.ts";
import { createTunnel, randomHostname, type Tunnel, type TunnelFault } from "./tunnel.ts";

const resolver = "127.0.0.1";
const bundleInside = "/etc/ssl/certs/ca-certificates.crt";
/** for programs that bring their own authorities; they expect the bundle at its usual place */
const bundleVariables = [
  "NODE_EXTRA_CA_CERTS",
  "SSL_CERT_FILE",
  "REQUESTS_CA_BUNDLE",
  "CURL_CA_BUNDLE",
  "GIT_SSL_CAINFO",
  "PIP_CERT",
];

/**
 * The network of one sandbox. Two things a real one allows and this one does not: a server of the sandbox on 0.0.0.0:443,
 * and one on 0.0.0.0:53, because those ports are taken.
 */
export interface SandboxNetwork extends AsyncDisposable {
  /** for `nsenter --net=`; its file name is the namespace's name for `ip netns exec` */
  readonly namespacePath: string;
  /** files to bind into the sandbox: path in the sandbox → path on the host */
  readonly files: Readonly<Record<string, string>>;
  /** variables for a sandbox that has the bundle of authorities at /etc/ssl/certs/ca-certificates.crt */
  readonly environment: Readonly<Record<string, string>>;
  /** Makes https://<host> lead to 127.0.0.1:port inside. The same port has the same host. Throws when blocked. */
  tunnel(port: number): Promise<{ host: string; port: number }>;
  /** TCP connections through its tunnels that are open now */
  openTunnelConnections(): number;
  /** replaces the fault; `{}` ends it */
  setTunnelFault(fault: TunnelFault): void;
}

export interface Surroundings {
  folder: string;
  broker: SocketBroker;
  internet: Internet;
  certificates: Certificates;
}

export async function openSandboxNetwork(surroundings: Surroundings, policy: NetworkPolicy): Promise<SandboxNetwork> {
  await using undo = new AsyncDisposableStack();
  const connected = policy.kind !== "blocked";
  const name = await addNamespace({ internet: connected });
  undo.defer(() => deleteNamespace(name));
  if (connected) await serveInside(undo, surroundings, policy, pathOf(name));
  const folder = join(surroundings.folder, name);
  undo.defer(() => rm(folder, { recursive: true, force: true }));
  const files = await writeFiles(folder);
  return new Opened(surroundings, policy, { namespacePath: pathOf(name), files, undo: undo.move() });
}

/** Listens for DNS and for the whole internet inside the namespace. */
async function serveInside(
  undo: AsyncDisposableStack,
  { broker, internet }: Surroundings,
  policy: NetworkPolicy,
  namespacePath: string,
): Promise<void> {
  const datagrams = await broker.datagram({ namespacePath, address: resolver, port: 53 });
  undo.defer(() => void datagrams.close());
  answerDatagrams(datagrams, internetAddress);
  const streams = await broker.listen({ namespacePath, address: resolver, port: 53 });
  const streamSockets = trackSockets(streams);
  undo.defer(() => closeServer(streams, streamSockets));
  answerConnections(streams, internetAddress);
  const https = await broker.listen({ namespacePath, address: internetAddress, port: 443 });
  const httpsSockets = trackSockets(https);
  undo.defer(() => closeServer(https, httpsSockets));
  https.on("connection", (socket) => void internet.accept(socket, policy));
}

async function writeFiles(folder: string): Promise<Record<string, string>> {
  await mkdir(folder, { recursive: true });
  const contents: Record<string, string> = {
    "resolv.conf": `nameserver ${resolver}\n`,
    hosts: "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
  };
  const files: Record<string, string> = {};
  for (const [name, content] of Object.entries(contents)) {
    files[`/etc/${name}`] = join(folder, name);
    await writeFile(join(folder, name), content);
  }
  return files;
}

/** The sockets of a server that are open; also those a TLS server has taken over. */
export function trackSockets(server: Server): Set<Socket> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  return sockets;
}

export async function closeServer(server: Server, sockets: Set<Socket>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  for (const socket of sockets) socket.destroy();
  await promise;
}

interface Parts {
  namespacePath: string;
  files: Record<string, string>;
  undo: AsyncDisposableStack;
}

class Opened implements SandboxNetwork {
  readonly namespacePath: string;
  readonly files: Readonly<Record<string, string>>;
  readonly environment = Object.fromEntries(bundleVariables.map((name) => [name, bundleInside]));
  readonly #surroundings: Surroundings;
  readonly #policy: NetworkPolicy;
  readonly #undo: AsyncDisposableStack;
  readonly #tunnels = new Map<number, Promise<Tunnel>>();
  #ready: Tunnel[] = [];
  #fault: TunnelFault = {};

  constructor(surroundings: Surroundings, policy: NetworkPolicy, { namespacePath, files, undo }: Parts) {
    this.#surroundings = surroundings;
    this.#policy = policy;
    this.namespacePath = namespacePath;
    this.files = files;
    this.#undo = undo;
  }

  async tunnel(port: number): Promise<{ host: string; port: number }> {
    if (this.#policy.kind === "blocked") throw new Error("a sandbox whose network is blocked has no tunnels");
    const tunnel = this.#tunnels.get(port) ?? this.#createTunnel(port);
    this.#tunnels.set(port, tunnel);
    return { host: (await tunnel).hostname, port: 443 };
  }

  openTunnelConnections(): number {
    return this.#ready.reduce((sum, tunnel) => sum + tunnel.openConnections(), 0);
  }

  setTunnelFault(fault: TunnelFault): void {
    this.#fault = { ...fault };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const tunnel of this.#ready) {
      this.#surroundings.internet.removeTunnel(tunnel.hostname);
      tunnel.closeConnections();
    }
    this.#ready = [];
    await this.#undo.disposeAsync();
  }

  async #createTunnel(port: number): Promise<Tunnel> {
    const { broker, certificates, internet } = this.#surroundings;
    const request = { namespacePath: this.namespacePath, address: "127.0.0.1", port };
    const tunnel = await createTunnel({
      hostname: randomHostname(port),
      certificates,
      dial: () => broker.dial(request),
      fault: () => this.#fault,
    });
    this.#ready.push(tunnel);
    internet.addTunnel(tunnel.hostname, tunnel);
    return tunnel;
  }
}
