/** Stands between the syncer and the server, and spoils single exchanges: refused, failed, cut, or lost after the server took it. */
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

export const exchangeFaults = [
  "500",
  "503",
  "request cut",
  "answer cut",
  "answer lost",
  "syncer killed at the request",
  "syncer killed before the answer",
  "syncer killed at the answer",
  "server killed at the request",
  "server killed after the answer",
] as const;
type ExchangeFault = (typeof exchangeFaults)[number];

export interface Armed {
  kind: ExchangeFault;
  /** only an exchange that brings rows is spoilt */
  isForRows: boolean;
  /** what was asked of the server is asked of it although the syncer is gone */
  goesOn: boolean;
}

interface Victims {
  /** where the server listens now; undefined: it is down */
  serverAddress: () => string | undefined;
  killSyncer: () => Promise<void>;
  killServer: () => Promise<void>;
  onFired: (fault: Armed) => void;
}

interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  body: Buffer;
}

export class Front implements AsyncDisposable {
  readonly #victims: Victims;
  readonly #server = createServer((incoming, response) => void this.#serve(incoming, response));
  readonly #armed: Armed[] = [];
  #port = 0;

  constructor(victims: Victims) {
    this.#victims = victims;
  }

  get address(): string {
    return `http://127.0.0.1:${this.#port}/`;
  }

  /** How many faults wait for an exchange. */
  get armed(): number {
    return this.#armed.length;
  }

  /** Spoils the next exchange that it fits. */
  arm(fault: Armed): void {
    this.#armed.push(fault);
  }

  async open(): Promise<void> {
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Connections are refused until it is opened again. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) await this.close();
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = await buffer(incoming);
      const fault = this.#take(incoming.url ?? "/");
      if (fault) await this.#spoil(fault, incoming, body, response);
      else give(response, await this.#ask(incoming, body));
    } catch {
      // the server is down, or the syncer is gone
      incoming.socket.destroy();
    }
  }

  #take(url: string): Armed | undefined {
    // while the server is down nothing else can be shown to fail
    if (this.#victims.serverAddress() === undefined) return undefined;
    const bringsRows = url.startsWith("/api/bulk_");
    const index = this.#armed.findIndex(({ isForRows }) => bringsRows || !isForRows);
    return index === -1 ? undefined : this.#armed.splice(index, 1)[0];
  }

  async #spoil(fault: Armed, incoming: IncomingMessage, body: Buffer, response: ServerResponse): Promise<void> {
    const { killSyncer, killServer, onFired } = this.#victims;
    onFired(fault);
    switch (fault.kind) {
      case "500":
        return void response.writeHead(500, jsonType).end('{"error":"database is locked"}');
      case "503":
        return void response.writeHead(503, { "content-type": "text/html" }).end("<h1>building</h1>");
      case "request cut":
        return void incoming.socket.destroy();
      case "answer cut":
        return cut(response, await this.#ask(incoming, body));
      case "answer lost":
        await this.#ask(incoming, body);
        return void incoming.socket.destroy();
      case "syncer killed before the answer":
        await this.#ask(incoming, body);
        // to the syncer a server that hangs: its own limit of 90 s would take too long here
        return await killSyncer();
      case "syncer killed at the request":
        await killSyncer();
        if (fault.goesOn) await this.#ask(incoming, body);
        return;
      case "syncer killed at the answer":
        give(response, await this.#ask(incoming, body));
        await once(response, "close");
        return await killSyncer();
      case "server killed at the request": {
        const asked = this.#ask(incoming, body);
        await Promise.all([killServer(), asked.catch(() => {})]);
        return void incoming.socket.destroy();
      }
      case "server killed after the answer": {
        const answer = await this.#ask(incoming, body);
        await killServer();
        return give(response, answer);
      }
    }
  }

  /** The whole answer of the server. */
  async #ask(incoming: IncomingMessage, body: Buffer): Promise<Answer> {
    const address = this.#victims.serverAddress();
    if (address === undefined) throw new Error("the server is down");
    const target = new URL(incoming.url ?? "/", address);
    const outgoing = request(target, { method: incoming.method ?? "GET", headers: incoming.headers, agent: false });
    outgoing.end(body);
    const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
    return { status: answer.statusCode ?? 500, headers: answer.headers, body: await buffer(answer) };
  }
}

const jsonType = { "content-type": "application/json" };

function give(response: ServerResponse, answer: Answer): void {
  begin(response, answer).end(answer.body);
}

function cut(response: ServerResponse, answer: Answer): void {
  const { body } = answer;
  begin(response, answer);
  response.write(body.subarray(0, body.length / 2), () => response.destroy());
}

function begin(response: ServerResponse, { status, headers, body }: Answer): ServerResponse {
  const { "transfer-encoding": _chunked, ...others } = headers;
  return response.writeHead(status, { ...others, "content-length": body.length });
}
