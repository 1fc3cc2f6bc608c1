/** The publisher as a process that can be killed, also while it copies. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, watch } from "node:fs";
import { join } from "node:path";

const program = join(import.meta.dirname, "../../../src/agent/publisher/publisher-main.ts");
const isDraft = (name: string | null) => name?.startsWith(".modal-sb-draft-") ?? false;

export class PublisherProcess implements AsyncDisposable {
  readonly #to: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown[]>;
  #said = "";

  constructor(from: string, to: string) {
    this.#to = to;
    this.#child = spawn(process.execPath, [program, from, to], { stdio: ["pipe", "pipe", "pipe"] });
    this.#exited = once(this.#child, "exit");
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.on("data", (chunk) => (this.#said += chunk));
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** What it has said, and what it complained of. */
  get said(): string {
    return this.#said;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  /** Kills it as soon as it copies. True when the copy was not complete. */
  async killInCopy(): Promise<boolean> {
    const { promise: copies, resolve } = Promise.withResolvers<void>();
    const watcher = watch(this.#to, (_event, name) => {
      // it is also told of drafts that go
      if (!isDraft(name) || !existsSync(join(this.#to, String(name)))) return;
      this.#child.kill("SIGKILL");
      resolve();
    });
    await Promise.race([copies, this.#exited]);
    watcher.close();
    await this.#exited;
    return readdirSync(this.#to).some(isDraft);
  }

  /** Ends it politely: it publishes once more. Its exit code. */
  async stop(): Promise<unknown> {
    this.#child.stdin?.end();
    const [code] = await this.#exited;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
