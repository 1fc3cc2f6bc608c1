import { connect, type Socket } from "node:net";
import type { Certificates } from "./certificates.ts";
import { readClientHello } from "./client-hello.ts";
import { joinSockets } from "./join-sockets.ts";
import { allows, type NetworkPolicy } from "./policy.ts";
import { createTlsSite, type Site } from "./site.ts";

const helloTimeoutMs = 60_000;

/** The hosts that exist, and the way to them: by the server name of the ClientHello and by nothing else, as on Modal. */
export class Internet {
  readonly #certificates: Certificates;
  readonly #world: Readonly<Record<string, string>>;
  readonly #worldSites = new Map<string, Promise<Site>>();
  readonly #tunnels = new Map<string, Site>();

  /** `world`: hostname → "127.0.0.1:PORT" of a plain HTTP server; read at every connection. */
  constructor(certificates: Certificates, world: Readonly<Record<string, string>>) {
    this.#certificates = certificates;
    this.#world = world;
  }

  addTunnel(hostname: string, site: Site): void {
    this.#tunnels.set(hostname, site);
  }

  removeTunnel(hostname: string): void {
    this.#tunnels.delete(hostname);
  }

  has(hostname: string): boolean {
    return this.#tunnels.has(hostname) || Object.hasOwn(this.#world, hostname);
  }

  /** Serves a new connection to port 443. It is reset when it names no host, an unknown one, or one it may not reach. */
  async accept(socket: Socket, policy: NetworkPolicy): Promise<void> {
    socket.allowHalfOpen = true;
    socket.setNoDelay(true);
    socket.on("error", () => {});
    try {
      const { serverName } = await readClientHello(socket, helloTimeoutMs);
      const site = serverName !== undefined && allows(policy, serverName) ? await this.#site(serverName) : undefined;
      // its sandbox may have ended meanwhile
      if (socket.destroyed) return;
      if (site) site.accept(socket);
      else socket.resetAndDestroy();
    } catch {
      socket.resetAndDestroy();
    }
  }

  #site(hostname: string): Site | Promise<Site> | undefined {
    const tunnel = this.#tunnels.get(hostname);
    if (tunnel || !Object.hasOwn(this.#world, hostname)) return tunnel;
    const site = this.#worldSites.get(hostname) ?? this.#createWorldSite(hostname);
    this.#worldSites.set(hostname, site);
    return site;
  }

  #createWorldSite(hostname: string): Promise<Site> {
    return createTlsSite(this.#certificates, hostname, (socket) => {
      const [host, port] = (this.#world[hostname] ?? "").split(":");
      const server = connect({ host: host ?? "", port: Number(port), allowHalfOpen: true, noDelay: true });
      joinSockets(socket, server);
    });
  }
}
