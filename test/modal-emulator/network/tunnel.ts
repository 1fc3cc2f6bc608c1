import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Certificates } from "./certificates.ts";
import { joinSockets } from "./join-sockets.ts";
import { createTlsSite, type Site } from "./site.ts";

/** What is wrong with the tunnels of a sandbox, for tests. */
export interface TunnelFault {
  /** so many connections are accepted and closed */
  notReady?: number;
  /** so many connections get a 502 of the edge, for their first request */
  answer502?: number;
  /** connections are accepted, and nothing is answered */
  isSilent?: boolean;
}

interface TunnelOptions {
  hostname: string;
  certificates: Certificates;
  /** connects to the port inside the sandbox */
  dial(): Promise<Socket>;
  /** asked at every connection; `answer502` is counted down in it */
  fault(): TunnelFault;
}

/** A public hostname that leads to a port of a sandbox: TLS up to the edge, raw TCP behind it. */
export interface Tunnel extends Site {
  readonly hostname: string;
  openConnections(): number;
  closeConnections(): void;
}

/** A hostname as Modal makes them: nobody can guess it. */
export function randomHostname(port: number): string {
  return `ta-${randomBytes(10).toString("hex")}-${port}-${randomBytes(6).toString("hex")}.w.modal.host`;
}

export async function createTunnel({ hostname, certificates, dial, fault }: TunnelOptions): Promise<Tunnel> {
  const open = new Set<Socket>();
  const site = await createTlsSite(certificates, hostname, (socket) => {
    const current = fault();
    if (current.answer502) {
      current.answer502 -= 1;
      answer502(socket);
      return;
    }
    if (current.isSilent) return;
    dial().then(
      (server) => {
        server.allowHalfOpen = true;
        server.setNoDelay(true);
        joinSockets(socket, server);
        if (socket.destroyed) server.resetAndDestroy();
      },
      () => socket.destroy(),
    );
  });
  return {
    hostname,
    accept(socket) {
      const current = fault();
      if (current.notReady) {
        current.notReady -= 1;
        socket.destroy();
        return;
      }
      open.add(socket);
      socket.on("close", () => open.delete(socket));
      site.accept(socket);
    },
    openConnections: () => open.size,
    closeConnections() {
      for (const socket of open) socket.destroy();
    },
  };
}

function answer502(socket: TLSSocket): void {
  socket.once("data", () => {
    socket.end("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  });
  socket.on("end", () => socket.destroy());
}
