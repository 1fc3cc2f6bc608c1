/** The syncer as a process, with its control socket. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { SyncSummary } from "../../src/syncer/sync-summary.ts";

const program = join(import.meta.dirname, "../../src/syncer/main.ts");

export interface SyncerSetting {
  folder: string;
  statePath: string;
  server: string;
  credentialsFolder: string;
  controlPath: string;
}

export class SyncerProcess implements AsyncDisposable {
  readonly #setting: SyncerSetting;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown[]>;
  #said = "";

  constructor(setting: SyncerSetting) {
    this.#setting = setting;
    const config = {
      ...setting,
      access: "published",
      maxBytesPerHour: 2 ** 40,
      withMedia: true,
      spaces: [],
      intervalMs: 100,
    };
    const env = { MODAL_SB_SYNCER: JSON.stringify(config), NODE_NO_WARNINGS: "1" };
    this.#child = spawn(process.execPath, [program], { env, stdio: ["ignore", "ignore", "pipe"] });
    this.#child.stderr?.on("data", (chunk) => (this.#said += chunk));
    this.#exited = once(this.#child, "exit");
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** It and the processes that it has started. */
  pids(): number[] {
    const { pid } = this.#child;
    if (pid === undefined || !this.isAlive) return [];
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ");
    return [pid, ...children.filter(Boolean).map(Number)];
  }

  /** The most memory that it or its reader has had, in MiB. */
  peakMiB(): number {
    const peakOf = (pid: number) => /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return Math.max(...this.pids().map((pid) => Number(peakOf(pid)) / 1024));
  }

  /** Sends what can be sent within the time, at least one look. Rejects when it ends meanwhile. */
  async drain(withinMs: number): Promise<SyncSummary> {
    const socket = await this.#connected();
    try {
      socket.write(`${JSON.stringify({ id: 1, op: "drain", withinMs })}\n`);
      for await (const line of createInterface({ input: socket })) {
        const answer = JSON.parse(line) as { ok: boolean; summary: SyncSummary; error?: string };
        if (!answer.ok) throw new Error(answer.error);
        return answer.summary;
      }
      throw new Error("the syncer hung up");
    } finally {
      socket.destroy();
    }
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  /** Ends it politely. Its exit code. */
  async stop(): Promise<unknown> {
    this.#child.kill("SIGTERM");
    const [code] = await this.#exited;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  /** As soon as it listens. */
  async #connected(): Promise<Socket> {
    for (;;) {
      if (!this.isAlive) throw new Error(`the syncer has ended: ${this.#said}`);
      const socket = connect(this.#setting.controlPath);
      try {
        await once(socket, "connect");
        socket.on("error", () => socket.destroy());
        return socket;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }
}
