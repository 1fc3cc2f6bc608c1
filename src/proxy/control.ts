/**
 * The host's hand on the proxy: a unix socket in the proxy's own sandbox, one JSON object a line each way. Requests are
 * `{id, op, …}`; answers are `{id, ok: true, …}` or `{id, ok: false, error}`. After `follow`, events come between them.
 */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { usdOf } from "./cost.ts";
import type { Credentials } from "./credentials.ts";
import { parseGrant, parseGrantChange } from "./grant.ts";
import type { Grants } from "./grants.ts";
import type { Ledger } from "./ledger.ts";
import type { Pace } from "./pace.ts";

/** longest line, in bytes */
const maxLineBytes = 64 * 1024;
/** a follower that reads so slowly is cut off, in bytes */
const maxUnreadBytes = 8 * 1024 * 1024;

export interface ControlTarget {
  grants: Grants;
  ledger: Ledger;
  pace: Pace;
  credentials: Credentials;
  status(): object;
  onRotated(): void;
  /** Calls the listener for each event from now on; returns the function that ends it. */
  follow(listener: (event: { event: string }) => void): () => void;
}

type Request = Record<string, unknown>;

export async function openControl(path: string, target: ControlTarget): Promise<AsyncDisposable> {
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
    createInterface({ input: socket }).on("line", (line) => send(answerTo(line, target, socket, send)));
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

function answerTo(line: string, target: ControlTarget, socket: Socket, send: (message: object) => void): object {
  let id: unknown = null;
  try {
    const request = JSON.parse(line) as Request;
    id = request["id"] ?? null;
    if (request["op"] === "follow") {
      const { events } = request;
      const wanted = Array.isArray(events) ? events : ["audit", "notice"];
      const listener = (event: { event: string }) => wanted.includes(event.event) && send(event);
      socket.once("close", target.follow(listener));
      return { id, ok: true };
    }
    return { id, ok: true, ...perform(request, target) };
  } catch (error) {
    return { id, ok: false, error: error instanceof Error ? error.message : String(error) };
  }
}

function perform(request: Request, { grants, ledger, pace, credentials, status, onRotated }: ControlTarget): object {
  switch (request["op"]) {
    case "grant":
      grants.add(parseGrant(request));
      return {};
    case "change":
      grants.change(wordOf(request, "sandboxId"), parseGrantChange(request));
      return {};
    case "revoke":
      grants.revoke(wordOf(request, "sandboxId"));
      return {};
    case "revoke_all":
      grants.revokeAll();
      return {};
    case "rotate":
      credentials.set(wordOf(request, "name"), wordOf(request, "value"));
      onRotated();
      return {};
    case "usage": {
      const account = wordOf(request, "account");
      const { nanoUsd, ...spending } = ledger.spendingOf(account);
      return { ...spending, usd: usdOf(nanoUsd), running: pace.runningOf(account) };
    }
    case "status":
      return status();
    default:
      throw new Error("Unknown op: it is one of grant, change, revoke, revoke_all, rotate, usage, status, follow");
  }
}

function wordOf(request: Request, field: string): string {
  const word = request[field];
  if (typeof word !== "string" || word === "") throw new Error(`${field} must be a word`);
  return word;
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
