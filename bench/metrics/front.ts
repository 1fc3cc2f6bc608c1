/** A port before the server that counts what clients send through it, headers included. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface Traffic {
  bytes: number;
  requests: number;
  /** how long the server had a whole request and had not begun to answer, in milliseconds */
  answeringMs: number;
}

const noTraffic: Traffic = { bytes: 0, requests: 0, answeringMs: 0 };

export interface Front extends AsyncDisposable {
  /** ends with a slash */
  address: string;
  /** What clients have sent since the last time this was asked. */
  take(): Traffic;
}

/** `address`: the server's, on loopback. */
export async function startFront(address: string): Promise<Front> {
  const port = Number(new URL(address).port);
  let traffic: Traffic = { ...noTraffic };
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => other.destroy());
      socket.on("close", () => sockets.delete(socket));
    }
    /** when the last part of the request went on; none: the answer has begun */
    let sentAt: number | undefined;
    client.on("data", (chunk: Buffer) => {
      sentAt = performance.now();
      traffic.bytes += chunk.length;
      // a client waits for an answer before it writes its next request, so that one begins a chunk
      if (/^[A-Z]+ \S+ HTTP\/1\.1\r\n/.test(chunk.toString("latin1", 0, 200))) traffic.requests += 1;
    });
    upstream.on("data", () => {
      if (sentAt !== undefined) traffic.answeringMs += performance.now() - sentAt;
      sentAt = undefined;
    });
    client.pipe(upstream).pipe(client);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    take() {
      const taken = traffic;
      traffic = { ...noTraffic };
      return taken;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
