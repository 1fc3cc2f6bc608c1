/** The command line as a user runs it: bin/modal-sb.js in a process, with a home of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type ScriptedApi, startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { testKey } from "./running-session.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const binPath = join(import.meta.dirname, "../../bin/modal-sb.js");

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  input?: string;
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** the node that runs it; this one when undefined */
  node?: string;
}

/** A user: a home, a state, a key, and an API that answers to it. */
export class User implements AsyncDisposable {
  readonly home: string;
  readonly key: string;
  readonly api: ScriptedApi;
  readonly #undo: AsyncDisposableStack;

  private constructor(home: string, key: string, api: ScriptedApi, undo: AsyncDisposableStack) {
    this.home = home;
    this.key = key;
    this.api = api;
    this.#undo = undo;
  }

  static async create(): Promise<User> {
    const undo = new AsyncDisposableStack();
    const home = undo.use(await temporaryFolder()).path;
    const key = testKey();
    const api = undo.use(await startScriptedApi({ script: echo(), apiKey: key }));
    await mkdir(join(home, "project"));
    return new User(home, key, api, undo);
  }

  get stateFolder(): string {
    return join(this.home, ".local/state/modal-sb");
  }

  /** Variables that are undefined are left out. */
  environment(changes: Record<string, string | undefined> = {}): Record<string, string> {
    const all = {
      PATH: process.env["PATH"],
      HOME: this.home,
      PIP_CONFIG_FILE: process.env["PIP_CONFIG_FILE"],
      ANTHROPIC_API_KEY: this.key,
      MODAL_SB_ANTHROPIC_ORIGIN: this.api.origin,
      ...changes,
    };
    return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined));
  }

  start(argv: readonly string[], options: RunOptions = {}): ChildProcess {
    return spawn(options.node ?? process.execPath, [binPath, ...argv], {
      env: this.environment(options.env),
      cwd: options.cwd ?? join(this.home, "project"),
      stdio: ["pipe", "pipe", "pipe"],
    });
  }

  async run(argv: readonly string[], options: RunOptions = {}): Promise<Ended> {
    const child = this.start(argv, options);
    child.stdin?.end(options.input ?? "");
    return await ended(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#undo.disposeAsync();
  }
}

/** What a process wrote, and its exit code. */
export async function ended(child: ChildProcess): Promise<Ended> {
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  const [stdout, stderr, code] = await Promise.all([
    child.stdout ? text(child.stdout) : "",
    child.stderr ? text(child.stderr) : "",
    exited,
  ]);
  return { code, stdout, stderr };
}
