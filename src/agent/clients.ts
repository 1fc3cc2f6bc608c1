/** The unix socket on which hosts attach: replay, live events, and their messages. */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { type Line, LineSplitter } from "../protocol/json-lines.ts";
import { maxEnvelopeBytes, maxHostLineBytes } from "../protocol/limits.ts";
import {
  type AgentEvent,
  type HostMessage,
  hostMessageSchema,
  type TurnIds,
  turnIdsSchema,
} from "../protocol/messages.ts";
import type { EventLog } from "./event-log.ts";

/** A client that reads slower than this much is behind is cut off; it can come back and replay. */
const maxBufferedBytes = 32 * 1024 * 1024;
/** The host writes the text last, so all that names the turn stands before this. No JSON string can contain it. */
const textField = ',"text":';

interface Unreadable {
  reason: string;
  /** The turn of the user message in this line; undefined when it was another message, or the ids cannot be made out. */
  turn: TurnIds | undefined;
}

export interface ClientsOptions {
  socketPath: string;
  log: EventLog;
  hello: () => AgentEvent;
  onMessage: (message: Exclude<HostMessage, { type: "attach" }>) => void;
  /** Ends the turn of a message that could not be read; false when it does not, because it knows the turn already. */
  refuse: (turn: TurnIds, reason: string) => boolean;
}

/** One attached host; `held` keeps live events back while older ones are replayed. */
interface Client {
  socket: Socket;
  held: string[] | undefined;
  heldBytes: number;
}

export class Clients {
  readonly #options: ClientsOptions;
  readonly #server: Server;
  readonly #clients = new Set<Client>();

  /** Listens at once; a socket file left by a dead daemon is replaced. */
  constructor(options: ClientsOptions) {
    this.#options = options;
    mkdirSync(dirname(options.socketPath), { recursive: true });
    rmSync(options.socketPath, { force: true });
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.listen(options.socketPath, () => chmodSync(options.socketPath, 0o600));
  }

  /** Sends a logged line to everyone attached. */
  broadcast(line: string): void {
    for (const client of this.#clients) this.#deliver(client, line);
  }

  /** Ends every connection after what was written to it. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const { socket } of this.#clients) socket.end(() => socket.destroy());
    await closed;
  }

  #accept(socket: Socket): void {
    const lines = new LineSplitter(maxHostLineBytes, maxEnvelopeBytes);
    let client: Client | undefined;
    socket.on("error", () => socket.destroy());
    socket.on("close", () => client && this.#clients.delete(client));
    socket.on("data", (chunk: Buffer) => {
      for (const line of lines.push(chunk)) {
        const message = parse(line);
        if ("reason" in message) this.#takeUnreadable(socket, client, message);
        else if (message.type === "attach") client ??= this.#attach(socket, message.after);
        else if (client) this.#options.onMessage(message);
        else this.#complain(socket, client, "the first message must be attach");
      }
    });
  }

  #attach(socket: Socket, after: number): Client {
    const client: Client = { socket, held: [], heldBytes: 0 };
    this.#clients.add(client);
    socket.write(`${JSON.stringify(this.#options.hello())}\n`);
    void this.#replay(client, after);
    return client;
  }

  async #replay(client: Client, after: number): Promise<void> {
    try {
      for await (const line of this.#options.log.replay(after)) {
        if (!client.socket.write(line)) await drained(client.socket);
      }
    } catch {
      // the log cannot be read, or the client left: either way it can attach again
      client.socket.destroy();
    }
    const held = client.held ?? [];
    client.held = undefined;
    for (const line of held) this.#deliver(client, line);
  }

  #deliver(client: Client, line: string): void {
    if (client.held) {
      client.held.push(line);
      client.heldBytes += line.length;
    } else {
      client.socket.write(line);
    }
    if (client.socket.writableLength > maxBufferedBytes || (client.held && client.heldBytes > maxBufferedBytes)) {
      client.socket.destroy();
    }
  }

  #takeUnreadable(socket: Socket, client: Client | undefined, { reason, turn }: Unreadable): void {
    const hasEnded = client && turn && this.#options.refuse(turn, reason);
    if (!hasEnded) this.#complain(socket, client, reason);
  }

  /**
   * Sends a protocol_error. It goes through the same queue as events, so the client has already received the answers to the
   * messages that it sent before the bad line.
   */
  #complain(socket: Socket, client: Client | undefined, reason: string): void {
    const event: AgentEvent = { seq: this.#options.log.lastSeq, type: "protocol_error", reason };
    const line = `${JSON.stringify(event)}\n`;
    if (client) this.#deliver(client, line);
    else socket.write(line);
  }
}

/** The message, or why the line is none. */
function parse(line: Line): HostMessage | Unreadable {
  if (!("text" in line)) {
    const reason = `a line of ${line.droppedBytes} bytes was dropped: the limit is ${maxHostLineBytes}`;
    return { reason, turn: turnBeforeText(line.head) };
  }
  let json: unknown;
  try {
    json = JSON.parse(line.text);
  } catch {
    return { reason: "a line was not JSON", turn: turnBeforeText(line.text) };
  }
  const message = hostMessageSchema.safeParse(json);
  if (message.success) return message.data;
  return { reason: "a line was no known message", turn: turnIdsSchema.safeParse(json).data };
}

/** The turn of a user message whose line is cut off or damaged in its text. */
function turnBeforeText(line: string): TurnIds | undefined {
  const end = line.indexOf(textField);
  if (end === -1) return undefined;
  try {
    return turnIdsSchema.safeParse(JSON.parse(`${line.slice(0, end)}}`)).data;
  } catch {
    return undefined;
  }
}

async function drained(socket: Socket): Promise<void> {
  if (socket.destroyed) throw new Error("the client left");
  await new Promise<void>((resolve) => {
    socket.once("drain", resolve);
    socket.once("close", resolve);
  });
}
