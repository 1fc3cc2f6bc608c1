import { type ChildProcess, spawn } from "node:child_process";
import type { Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import type { Server, Socket } from "node:net";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("socket-broker.py", import.meta.url));

interface Request {
  namespacePath: string;
  address: string;
  port: number;
}

interface Waiting {
  resolve(handle: unknown): void;
  reject(error: Error): void;
}

/** Sockets of other network namespaces, made by one helper process and used in this one. */
export class SocketBroker implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;

  constructor() {
    // a group of its own: Ctrl-C ends it through this process, after the disposal
    this.#process = spawn("python3", ["-I", "-S", program], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      detached: true,
    });
    this.#process.on("message", (message, handle) => this.#settle(message as { id: number; error?: string }, handle));
    this.#process.on("error", (error) => this.#failAll(error));
    this.#process.on("exit", () => this.#failAll(new Error("the socket broker has ended")));
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  async listen(request: Request): Promise<Server> {
    return (await this.#ask("listen", request)) as Server;
  }

  async datagram(request: Request): Promise<DatagramSocket> {
    return (await this.#ask("datagram", request)) as DatagramSocket;
  }

  /** Rejects when nothing listens, or nobody accepts within 10 s. */
  async dial(request: Request): Promise<Socket> {
    return (await this.#ask("dial", request)) as Socket;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exit = once(this.#process, "exit");
    if (this.#process.connected) this.#process.disconnect();
    await exit;
  }

  #ask(kind: string, { namespacePath, address, port }: Request): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#process.send({ id, kind, namespace: namespacePath, address, port }, (error) => {
        if (error) this.#settle({ id, error: error.message }, undefined);
      });
    });
  }

  #settle({ id, error }: { id: number; error?: string }, handle: unknown): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(handle);
    else waiting?.reject(new Error(error));
  }

  #failAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
