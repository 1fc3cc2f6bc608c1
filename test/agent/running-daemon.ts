/** The agent daemon as a process of this machine, with the real claude, against a scripted API. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type ScriptedApi, startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { LineSplitter } from "../../src/protocol/json-lines.ts";
import { maxAgentLineBytes } from "../../src/protocol/limits.ts";
import { type AgentEvent, agentEventSchema, type EndTurn } from "../../src/protocol/messages.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const daemonPath = join(import.meta.dirname, "../../src/agent/daemon.ts");
/** an event that never comes would hold the whole run */
const deadlineMs = 600_000;

export interface DaemonOptions {
  /** holds data/, app/ and the socket; a second daemon on it continues the session */
  folder: string;
  /** origin of the API */
  origin: string;
  /** over the daemon's own environment */
  env?: Record<string, string>;
  maxTurns?: number;
  /** where copies of trackio's databases go */
  metricsFolder?: string;
  /** of its sandbox, in milliseconds */
  lifetimeMs?: number;
}

/** A client of the daemon's socket, which remembers what it got. */
export class DaemonClient implements AsyncDisposable {
  readonly events: AgentEvent[] = [];
  readonly socket: Socket;
  readonly #waiters = new Set<() => void>();
  #listener: (event: AgentEvent) => void = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
    const lines = new LineSplitter(maxAgentLineBytes);
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      for (const line of lines.push(chunk)) {
        if (!("text" in line)) throw new Error("the daemon sent a line over the cap");
        const event = agentEventSchema.parse(JSON.parse(line.text));
        this.events.push(event);
        this.#listener(event);
      }
      for (const wake of this.#waiters) wake();
    });
  }

  /** Calls it for each event from now on. */
  listen(listener: (event: AgentEvent) => void): void {
    this.#listener = listener;
  }

  send(message: object): void {
    this.socket.write(`${JSON.stringify(message)}\n`);
  }

  /** The first event, past or future, of that type that fits. */
  async waitFor<Type extends AgentEvent["type"]>(
    type: Type,
    fits: (event: Extract<AgentEvent, { type: Type }>) => boolean = () => true,
  ): Promise<Extract<AgentEvent, { type: Type }>> {
    const find = () => this.events.find((event) => event.type === type && fits(event as never));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const wake = () => {
      if (find()) resolve();
    };
    const words = () => `No ${type}; got ${JSON.stringify(this.events)}`;
    const tooLate = setTimeout(() => reject(new Error(words())), deadlineMs).unref();
    this.#waiters.add(wake);
    wake();
    try {
      await promise;
    } finally {
      clearTimeout(tooLate);
      this.#waiters.delete(wake);
    }
    return find() as Extract<AgentEvent, { type: Type }>;
  }

  /** Sends a user message; its turn id and the promise of its end. */
  say(text: string): { turnId: string; end: Promise<EndTurn> } {
    const turnId = randomUUID();
    this.send({ type: "user", turnId, nonce: `nonce-${turnId}`, text });
    return { turnId, end: this.waitFor("END_TURN", (event) => event.turnId === turnId) };
  }

  /** Result and nonce of each END_TURN that came for the turn. */
  endsOf(turnId: string): string[] {
    return this.events.flatMap((event) =>
      event.type === "END_TURN" && event.turnId === turnId ? [`${event.result} ${event.nonce}`] : [],
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.destroy();
  }
}

export class RunningDaemon implements AsyncDisposable {
  readonly process: ChildProcess;
  readonly socketPath: string;
  readonly dataFolder: string;
  stderr = "";

  private constructor(process: ChildProcess, options: DaemonOptions) {
    this.process = process;
    this.socketPath = join(options.folder, "agent.sock");
    this.dataFolder = join(options.folder, "data");
    process.stderr?.on("data", (chunk) => {
      this.stderr += chunk;
    });
  }

  static async start(options: DaemonOptions): Promise<RunningDaemon> {
    const { folder, origin, env = {}, maxTurns = 100, metricsFolder = join(folder, "trackio") } = options;
    await Promise.all(["data", "app", "home"].map((name) => mkdir(join(folder, name), { recursive: true })));
    const config = {
      sessionId: "00000000-0000-4000-8000-000000000000",
      socketPath: join(folder, "agent.sock"),
      dataFolder: join(folder, "data"),
      cwd: join(folder, "app"),
      metricsFolder,
      maxTurns,
      ...(options.lifetimeMs !== undefined && { lifetimeMs: options.lifetimeMs }),
    };
    const child = spawn(process.execPath, [daemonPath], {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: join(folder, "home"),
        MODAL_SANDBOX_ID: "sb-test",
        MODAL_SB_SANDBOX_TOKEN: "token",
        CLAUDE_CODE_TMPDIR: folder,
        ANTHROPIC_BASE_URL: origin,
        MODAL_SB_AGENT: JSON.stringify(config),
        ...env,
      },
    });
    return new RunningDaemon(child, options);
  }

  /** Attaches; retries until the socket is there. `after`: number of the last event that is already known. */
  async attach(after = 0): Promise<DaemonClient> {
    for (;;) {
      const socket = connect(this.socketPath);
      try {
        await once(socket, "connect");
        const client = new DaemonClient(socket);
        client.send({ type: "attach", after });
        await client.waitFor("hello");
        return client;
      } catch (error) {
        if (this.process.exitCode !== null) throw new Error(`The daemon ended: ${this.stderr}`, { cause: error });
        await delay(20);
      }
    }
  }

  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return this.process.exitCode;
    const exited = once(this.process, "exit");
    this.process.kill(signal);
    return (await exited)[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

interface DaemonParts extends AsyncDisposable {
  folder: string;
  api: ScriptedApi;
  daemon: RunningDaemon;
  client: DaemonClient;
}

/** A daemon in `folder` with a client attached. */
export async function startDaemon(folder: string, api: ScriptedApi, maxTurns = 100): Promise<DaemonParts> {
  const daemon = await RunningDaemon.start({ folder, origin: api.origin, maxTurns });
  const client = await daemon.attach();
  return { folder, api, daemon, client, [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose]() };
}

/** Runs `body` with a daemon in a folder of its own, and an API that echoes. */
export async function withDaemon(body: (parts: DaemonParts) => Promise<void>, maxTurns = 100): Promise<void> {
  await using folder = await temporaryFolder();
  await using api = await startScriptedApi({ script: echo() });
  await using parts = await startDaemon(folder.path, api, maxTurns);
  await body(parts);
}
