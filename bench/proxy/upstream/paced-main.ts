/**
 * The upstream that takes its time, as a process. What it does, the asked model says: `bench-think` answers after a
 * while with the microseconds it took; `bench-stream` sends events at a steady pace until it is told to finish;
 * `bench-large` answers with 100 MB. It writes to the sockets itself: node:http would cost more than what is measured.
 */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { microseconds } from "../clock.ts";
import { messageAnswer } from "../message.ts";
import { firstFrame, frame, lastFrames } from "./frames.ts";
import type { FromUpstream, ToUpstream } from "./paced.ts";

const thinkMs = 100;
const intervalMs = 20;
const largeBytes = 100 * 1024 * 1024;

interface Stream {
  socket: Socket;
  sent: number;
  /** ms, of performance.now() */
  nextAt: number;
}

const streams = new Set<Stream>();
let connections = 0;

const tell = (message: FromUpstream) => process.send?.(message);

function think(socket: Socket, arrived: number): void {
  setTimeout(() => {
    const answer = messageAnswer();
    const took = `@${String(microseconds() - arrived).padStart(9, "0")}@`;
    const body = answer.replace("Bench".repeat(4), "B".repeat(20 - took.length) + took);
    socket.write(
      `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  }, thinkMs);
}

function stream(socket: Socket): void {
  const head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close";
  socket.write(`${head}\r\n\r\n${firstFrame}`);
  // from anywhere in the interval, so that the streams do not beat together
  const running = { socket, sent: 0, nextAt: performance.now() + Math.random() * intervalMs };
  streams.add(running);
  socket.once("close", () => {
    if (streams.delete(running)) tell({ type: "left", at: microseconds() });
  });
}

function pace(): void {
  const now = performance.now();
  for (const running of streams) {
    if (running.nextAt > now) continue;
    running.nextAt += intervalMs;
    running.socket.write(frame(running.sent, microseconds()), "latin1");
    running.sent += 1;
  }
  if (streams.size > 0) setTimeout(pace, 1);
}

function finish(): void {
  for (const { socket, sent } of streams) socket.end(lastFrames(sent), "latin1");
  streams.clear();
}

async function large(socket: Socket): Promise<void> {
  await pipeline(function* () {
    yield `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${largeBytes}\r\nconnection: close\r\n\r\n`;
    const part = Buffer.alloc(64 * 1024, "x");
    for (let sent = 0; sent < largeBytes; sent += part.length) yield part;
  }, socket);
}

async function serve(incoming: IncomingMessage): Promise<void> {
  const arrived = microseconds();
  const { socket } = incoming;
  let body = "";
  for await (const part of incoming.setEncoding("latin1")) body += part;
  if (body.includes('"bench-stream"')) {
    const isFirst = streams.size === 0;
    stream(socket);
    if (isFirst) pace();
  } else if (body.includes('"bench-large"')) await large(socket);
  else think(socket, arrived);
}

const server = createServer({ keepAliveTimeout: 600_000 }, (incoming) => {
  serve(incoming).catch(() => incoming.socket.destroy());
});
server.on("connection", (socket: Socket) => {
  connections += 1;
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
});
server.listen(0, "127.0.0.1", 4096, () => tell({ type: "listening", port: (server.address() as AddressInfo).port }));

process.on("message", (message: ToUpstream) => {
  if (message === "finish") finish();
  else tell({ type: "connections", count: connections });
});
