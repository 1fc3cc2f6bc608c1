/**
 * The host's hand on the proxy: a unix socket in the proxy's own sandbox, one JSON object a line each way. Requests are
 * `{id, op, …}`; answers are `{id, ok: true, …}` or `{id, ok: false, error}`.
 */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Grant, Grants } from "./grants.ts";

/** longest line, in bytes */
const maxLineBytes = 64 * 1024;

export interface ControlTarget {
  grants: Grants;
  usage(sandboxId: string): object;
  status(): object;
}

type Request = Record<string, unknown>;

export async function openControl(path: string, target: ControlTarget): Promise<AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    refuseLongLines(socket);
    createInterface({ input: socket }).on("line", (line) =>
      socket.write(`${JSON.stringify(answerTo(line, target))}\n`),
    );
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

function answerTo(line: string, target: ControlTarget): object {
  let id: unknown = null;
  try {
    const request = JSON.parse(line) as Request;
    id = request["id"] ?? null;
    return { id, ok: true, ...perform(request, target) };
  } catch (error) {
    return { id, ok: false, error: error instanceof Error ? error.message : String(error) };
  }
}

function perform(request: Request, target: ControlTarget): object {
  switch (request["op"]) {
    case "grant":
      target.grants.add(grantOf(request));
      return {};
    case "revoke":
      target.grants.revoke(sandboxIdOf(request));
      return {};
    case "usage":
      return target.usage(sandboxIdOf(request));
    case "status":
      return target.status();
    default:
      throw new Error("Unknown op: it is one of grant, revoke, usage, status");
  }
}

function grantOf(request: Request): Grant {
  const { tokenHash, expiresAt, upstreams } = request;
  if (typeof tokenHash !== "string" || !/^[0-9a-f]{64}$/.test(tokenHash))
    throw new Error("tokenHash must be 64 hex digits");
  if (typeof expiresAt !== "number" || !Number.isFinite(expiresAt)) throw new Error("expiresAt must be a time in ms");
  if (!Array.isArray(upstreams) || !upstreams.every((name) => typeof name === "string")) {
    throw new Error("upstreams must be a list of names");
  }
  return { sandboxId: sandboxIdOf(request), tokenHash, expiresAt, upstreams };
}

function sandboxIdOf(request: Request): string {
  const { sandboxId } = request;
  if (typeof sandboxId !== "string" || sandboxId === "") throw new Error("sandboxId must be a word");
  return sandboxId;
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
