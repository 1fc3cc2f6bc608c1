/** The daemon's hand on the publisher, a process of its own: started when there is something to bring back or to publish. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL(`./publisher/publisher-main${import.meta.url.slice(-3)}`, import.meta.url));
/** how often is looked whether trackio has begun to write, and whether the publisher lives */
const lookMs = 2000;
/** a last publication may take so long */
const lastMs = 8000;

export interface PublishingOptions {
  /** where trackio writes; undefined: nothing is published */
  from: string | undefined;
  /** the volume of the copies */
  to: string;
  /** true where a volume is to be committed after each publication */
  commit: boolean;
  onProblem: (words: string) => void;
}

export class MetricsPublishing {
  readonly #options: PublishingOptions;
  readonly #told = new Set<string>();
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** resolves when what was published before is back in the trackio folder */
  readonly restored: Promise<void>;

  constructor(options: PublishingOptions) {
    this.#options = options;
    const { from, to } = options;
    if (from === undefined) {
      this.restored = Promise.resolve();
      return;
    }
    this.restored = holdsMetrics(to) ? this.#start(from) : Promise.resolve();
    this.#timer = setInterval(() => {
      if (!this.#child && existsSync(from)) void this.#start(from);
    }, lookMs);
    this.#timer.unref();
  }

  /** Publishes what is left. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    const { from } = this.#options;
    if (from === undefined) return;
    if (!this.#child && existsSync(from)) void this.#start(from);
    const child = this.#child;
    if (!child) return;
    const timer = setTimeout(() => child.kill("SIGKILL"), lastMs);
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.stdin?.end();
    await ended;
    clearTimeout(timer);
  }

  /** Resolves when it has restored, or ended. */
  #start(from: string): Promise<void> {
    const { to, commit } = this.#options;
    const { promise, resolve } = Promise.withResolvers<void>();
    // the key in our environment is of no use to it
    const child = spawn(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", program, from, to, ...(commit ? ["commit"] : [])],
      {
        stdio: ["pipe", "pipe", "ignore"],
        env: {},
      },
    );
    this.#child = child;
    child.unref();
    child.stdin.on("error", () => {});
    createInterface({ input: child.stdout }).on("line", (line) => {
      const { restored, problem } = messageIn(line);
      if (restored !== undefined) resolve();
      if (problem !== undefined) this.#tell(problem);
    });
    const end = (code: unknown) => {
      if (this.#child === child) this.#child = undefined;
      if (code !== 0) this.#tell("The publisher of metrics ended, and is started again");
      resolve();
    };
    child.once("exit", end);
    child.once("error", end);
    return promise;
  }

  #tell(words: string): void {
    if (this.#told.has(words)) return;
    this.#told.add(words);
    this.#options.onProblem(words);
  }
}

function holdsMetrics(folder: string): boolean {
  return existsSync(folder) && readdirSync(folder).some((name) => name.endsWith(".db") || name === "inbox");
}

/** A tool of the agent may write there, too. */
function messageIn(line: string): { restored?: number; problem?: string } {
  try {
    return (JSON.parse(line) ?? {}) as { restored?: number; problem?: string };
  } catch {
    return {};
  }
}
