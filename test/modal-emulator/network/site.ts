import type { Socket } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import type { Certificates } from "./certificates.ts";

const handshakeTimeoutMs = 60_000;

/** One hostname of the emulated internet. */
export interface Site {
  /** takes over a connection whose ClientHello is still unread */
  accept(socket: Socket): void;
}

/** TLS as Modal's edge speaks it for HTTP, HTTP/1.1 only; `serve` gets what is inside. */
export async function createTlsSite(
  certificates: Certificates,
  hostname: string,
  serve: (socket: TLSSocket) => void,
): Promise<Site> {
  const certificate = await certificates.issue(hostname);
  // never listens: connections are given to it
  const server = createServer({ ...certificate, ALPNProtocols: ["http/1.1"], handshakeTimeout: handshakeTimeoutMs });
  server.on("secureConnection", (socket) => {
    socket.on("error", () => {});
    serve(socket);
  });
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return { accept: (socket) => server.emit("connection", socket) };
}
