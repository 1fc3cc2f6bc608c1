/**
 * The emulated internet of the Modal emulator. Every sandbox has a network namespace with a loopback interface only, where
 * this process answers DNS and listens on port 443 (see socket-broker.py for how). What a connection may reach is decided
 * by the server name in its ClientHello, as Modal does: not by the Host header, so domain fronting works. Sources: Modal's
 * guide pages "sandbox-networking" and "tunnels".
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { Certificates } from "./certificates.ts";
import { startHostProxy } from "./host-proxy.ts";
import { Internet } from "./internet.ts";
import { sweepNamespaces, whyNoNamespaces } from "./namespaces.ts";
import type { NetworkPolicy } from "./policy.ts";
import { closeServer, openSandboxNetwork, type SandboxNetwork, trackSockets } from "./sandbox-network.ts";
import { SocketBroker } from "./socket-broker.ts";

export type { NetworkPolicy } from "./policy.ts";
export type { SandboxNetwork } from "./sandbox-network.ts";

export interface NetworkOptions {
  /** for files of its own; the caller removes it after the disposal */
  folder: string;
  /** hostname → "127.0.0.1:PORT" of a plain HTTP server; may be changed at any time */
  world: Record<string, string>;
}

export interface Network extends AsyncDisposable {
  /** PEM of the CA that signs for every host */
  readonly caPath: string;
  /** the system's CAs and ours, to be bound over /etc/ssl/certs/ca-certificates.crt in every sandbox */
  readonly caBundlePath: string;
  /** the helper process that makes sockets in namespaces */
  readonly helperPid: number | undefined;
  /** A network namespace for a sandbox. TLS on port 443 only; names always resolve, unless blocked. */
  open(policy: NetworkPolicy): Promise<SandboxNetwork>;
  /**
   * A connection from the host to port 443 of a hostname, before TLS: give it to tls.connect as `socket`, with the
   * hostname as `servername`. Rejects when there is no such host.
   */
  hostDial(hostname: string): Promise<Socket>;
  /**
   * The same for programs on the host: the URL of an HTTP CONNECT proxy, for HTTPS_PROXY (Node also wants
   * NODE_USE_ENV_PROXY=1 and the CA by NODE_EXTRA_CA_CERTS).
   */
  readonly hostProxyUrl: string;
}

/** Throws when `whyNoNamespaces` has a reason. */
export async function startNetwork({ folder, world }: NetworkOptions): Promise<Network> {
  const reason = whyNoNamespaces();
  if (reason !== undefined) throw new Error(reason);
  await using undo = new AsyncDisposableStack();
  await sweepNamespaces();
  const certificates = await Certificates.create(join(folder, "certificates"));
  const internet = new Internet(certificates, world);
  const broker = undo.use(new SocketBroker());
  const hostProxy = undo.use(await startHostProxy(internet));
  const front = createServer((socket) => void internet.accept(socket, { kind: "open" }));
  const frontSockets = trackSockets(front);
  front.listen(0, "127.0.0.1");
  await once(front, "listening");
  undo.defer(() => closeServer(front, frontSockets));
  const { port } = front.address() as AddressInfo;

  const opened = new Set<SandboxNetwork>();
  undo.defer(async () => {
    for (const network of opened) await network[Symbol.asyncDispose]();
  });
  const all = undo.move();
  return {
    caPath: certificates.caPath,
    caBundlePath: certificates.bundlePath,
    helperPid: broker.pid,
    async open(policy) {
      const network = await openSandboxNetwork({ folder, broker, internet, certificates }, policy);
      opened.add(network);
      return network;
    },
    async hostDial(hostname) {
      if (!internet.has(hostname)) throw new Error(`the emulated internet has no host ${hostname}`);
      const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
      await once(socket, "connect");
      return socket;
    },
    hostProxyUrl: hostProxy.url,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}
