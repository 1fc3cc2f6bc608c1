import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, Socket } from "node:net";
import type { Internet } from "./internet.ts";

interface HostProxy extends AsyncDisposable {
  /** for HTTPS_PROXY */
  readonly url: string;
}

/** An HTTP CONNECT proxy on loopback: the way of the host's own programs to the emulated internet. */
export async function startHostProxy(internet: Internet): Promise<HostProxy> {
  const sockets = new Set<Socket>();
  const server = createServer((_request, response) => response.writeHead(405).end());
  server.on("connect", (request, socket, head) => {
    if (!(socket instanceof Socket)) return;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    const [hostname, port] = (request.url ?? "").split(":");
    if (port !== "443" || !internet.has(hostname ?? "")) {
      socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
      return;
    }
    socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
    if (head.length > 0) socket.unshift(head);
    void internet.accept(socket, { kind: "open" });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
