/**
 * The host's hand on a trusted process: a unix socket in that process's own sandbox, one JSON object a line each way.
 * Requests are `{id, op, …}`; answers are `{id, ok: true, …}` or `{id, ok: false, error}`; events come between them.
 */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";

/** longest line, in bytes */
const maxLineBytes = 64 * 1024;
/** whoever reads so slowly is cut off, in bytes */
const maxUnreadBytes = 8 * 1024 * 1024;

export type ControlRequest = Record<string, unknown>;

/** Who asks. */
export interface ControlPeer {
  /** Sends an event. */
  send(event: object): void;
  onClose(listener: () => void): void;
}

/** `perform` gives an answer's fields, or throws: its words are the refusal. */
export async function openControlServer(
  path: string,
  perform: (request: ControlRequest, peer: ControlPeer) => object | Promise<object>,
): Promise<AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    refuseLongLines(socket);
    const send = (message: object) => {
      socket.write(`${JSON.stringify(message)}\n`);
      if (socket.writableLength > maxUnreadBytes) socket.destroy();
    };
    const peer: ControlPeer = { send, onClose: (listener) => socket.once("close", listener) };
    createInterface({ input: socket }).on("line", async (line) => {
      // an empty one is a sign of life
      if (line !== "") send(await answerTo(line, perform, peer));
    });
  });
  rmSync(path, { force: true });
  // nobody else may connect, not even between listening and closing the mode
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
  } finally {
    process.umask(umask);
  }
  chmodSync(path, 0o600);
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

async function answerTo(
  line: string,
  perform: (request: ControlRequest, peer: ControlPeer) => object | Promise<object>,
  peer: ControlPeer,
): Promise<object> {
  let id: unknown = null;
  try {
    const request = JSON.parse(line) as ControlRequest;
    id = request["id"] ?? null;
    return { id, ok: true, ...(await perform(request, peer)) };
  } catch (error) {
    return { id, ok: false, error: error instanceof Error ? error.message : String(error) };
  }
}

/** readline holds an unfinished line without a limit of its own. */
function refuseLongLines(socket: Socket): void {
  let bytes = 0;
  socket.on("data", (chunk: Buffer) => {
    const newline = chunk.lastIndexOf(10);
    bytes = newline === -1 ? bytes + chunk.length : chunk.length - newline - 1;
    if (bytes <= maxLineBytes || socket.writableEnded) return;
    socket.end(`${JSON.stringify({ id: null, ok: false, error: "The line is too long" })}\n`, () => socket.destroy());
  });
}
