/** One running bubblewrap: its start, the processes beside its main one, its limits and its end. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import type { Duplex } from "node:stream";
import { messageOf, SandboxError } from "../../errors.ts";
import { Secret } from "../../secret.ts";
import { LastOutput } from "../last-output.ts";
import type { ExecOptions, PortAddress, Sandbox, SandboxEnd, SandboxProcess, SandboxSpec } from "../provider.ts";
import { type Entry, enter } from "./entry.ts";
import type { HostPrograms } from "./host-programs.ts";
import type { Identity } from "./identity.ts";
import { launchFds, networkOf } from "./launch.ts";
import { limitMemory, type MemoryLimit } from "./memory-limit.ts";
import { childrenOf, killQuietly, processesWithVariable } from "./process-table.ts";

/** the reasons that a provider on this machine knows */
type EndReason = Exclude<SandboxEnd["reason"], "preempted" | "idle">;

/** setTimeout's longest delay */
const maxTimerMs = 2 ** 31 - 1;

export interface LocalSandboxOptions {
  id: string;
  spec: SandboxSpec;
  programs: HostPrograms;
  identity: Identity;
  /** the whole environment of the sandbox */
  environment: Record<string, string>;
  addresses: ReadonlyMap<number, PortAddress>;
  /** file of the host to which bubblewrap writes the number of the first process */
  infoPath: string;
  /** the launch chain's argument vector, and bubblewrap's own arguments */
  argv: readonly string[];
  bwrapArguments: readonly string[];
  /** removes what the sandbox had on the host; called once, after its last process ended */
  cleanUp: () => Promise<void>;
}

export class LocalSandbox implements Sandbox {
  readonly id: string;
  readonly name: string;
  readonly role: SandboxSpec["role"];
  readonly tags: SandboxSpec["tags"];
  readonly startedAt = new Date();
  readonly endsAt: Date;
  readonly exited: Promise<SandboxEnd>;
  readonly #options: LocalSandboxOptions;
  readonly #child: ChildProcess;
  readonly #processes = new Set<ChildProcess>();
  #firstPid = 0;
  #reason: EndReason | undefined;
  readonly #output = new LastOutput();
  #ended = false;
  #memoryLimit: MemoryLimit | undefined;
  #memoryKill = "";
  #lifetime: NodeJS.Timeout | undefined;

  private constructor(options: LocalSandboxOptions) {
    this.#options = options;
    this.id = options.id;
    this.name = options.spec.name;
    this.role = options.spec.role;
    this.tags = options.spec.tags;
    this.endsAt = new Date(this.startedAt.getTime() + options.spec.limits.lifetimeMs);
    const secrets = Object.keys(options.spec.secrets).map(() => "pipe" as const);
    // a file and no pipe: were this process dead when bubblewrap writes there, the signal would end bubblewrap between
    // its two halves, and the inner one would wait for ever
    const info = openSync(options.infoPath, "w", 0o600);
    this.#child = spawn(options.argv[0] as string, options.argv.slice(1), {
      env: options.environment,
      stdio: ["ignore", "pipe", "pipe", "pipe", info, "pipe", ...secrets],
      // in a session of its own: Ctrl-C at the terminal is for modal-sb to interpret
      detached: true,
    });
    closeSync(info);
    for (const name of ["stdout", "stderr"] as const) {
      this.#child[name]?.on("data", (chunk: Buffer) => this.#output.keep(name, chunk));
    }
    this.exited = this.#waitForEnd();
  }

  /** Resolves when the main process has been started. Throws a SandboxError with bubblewrap's words when it was not. */
  static async start(options: LocalSandboxOptions, signal?: AbortSignal): Promise<LocalSandbox> {
    const sandbox = new LocalSandbox(options);
    try {
      await sandbox.#handshake(signal);
    } catch (error) {
      sandbox.#child.kill("SIGKILL");
      const end = await sandbox.exited;
      signal?.throwIfAborted();
      const words = end.outputTail.trim() || messageOf(error);
      throw new SandboxError(`The sandbox "${sandbox.name}" did not start: ${words}`, {
        hint: "modal-sb doctor says what this machine lacks",
        cause: error,
      });
    }
    return sandbox;
  }

  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<SandboxProcess> {
    if (this.#ended) throw new SandboxError(`The sandbox "${this.name}" has ended`);
    const { programs, identity, environment, spec } = this.#options;
    const entry: Entry = {
      ...{ programs, identity, environment, pid: this.#firstPid, limits: spec.limits },
      network: networkOf(spec),
      workingDirectory: spec.workingDirectory,
    };
    return enter(entry, argv, options, this.#processes);
  }

  address(port: number): PortAddress {
    const address = this.#options.addresses.get(port);
    if (!address) throw new SandboxError(`The sandbox "${this.name}" serves no port ${port}`);
    return address;
  }

  async refreshVolumes(): Promise<void> {
    // local volumes are folders: every commit is visible at once
  }

  async hold(): Promise<void> {
    // it lives as long as this process does
  }

  async release(): Promise<void> {
    throw new SandboxError(`The sandbox "${this.name}" cannot outlive the process that made it`);
  }

  status(): "running" | "ended" {
    return this.#ended ? "ended" : "running";
  }

  async terminate(options: { graceMs?: number } = {}): Promise<void> {
    this.#end("terminated", options.graceMs ?? 0);
    await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.terminate();
  }

  async #handshake(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const { spec } = this.#options;
    const streams = this.#child.stdio as unknown as (Duplex | null)[];
    for (const stream of streams) stream?.on("error", () => {});
    streams[launchFds.args]?.end(this.#options.bwrapArguments.map((argument) => `${argument}\0`).join(""));
    Object.values(spec.secrets).forEach((secret, index) => {
      if (!(secret instanceof Secret))
        throw new SandboxError(`The local provider keeps no secrets ("${secret.storedAs}")`);
      streams[launchFds.firstSecret + index]?.end(secret.reveal());
    });
    const channel = streams[launchFds.channel] as Duplex;
    const ended = once(this.#child, "exit", signal ? { signal } : {}).then(() => {
      throw new Error("it ended at once");
    });
    ended.catch(() => {});
    await Promise.race([once(channel, "data"), ended]);
    const info = readFileSync(this.#options.infoPath, "utf8");
    this.#firstPid = (JSON.parse(info) as { "child-pid": number })["child-pid"];
    channel.end("go\n");
    this.#memoryLimit = limitMemory(this.#firstPid, spec.limits.memoryMiB, (kill) => {
      this.#memoryKill = `a process with ${kill.ownMiB} MiB was ended: the sandbox may use ${spec.limits.memoryMiB} MiB`;
    });
    this.#lifetime = setTimeout(() => this.#end("lifetime", 2000), Math.min(spec.limits.lifetimeMs, maxTimerMs));
  }

  /** Asks the main process to end, and after the grace ends the pid namespace, with all that is in it. */
  #end(reason: EndReason, graceMs: number): void {
    if (this.#ended) return;
    this.#reason ??= reason;
    const kill = () => {
      if (this.#firstPid !== 0) killQuietly(this.#firstPid, "SIGKILL");
      this.#child.kill("SIGKILL");
    };
    const main = childrenOf(this.#firstPid)[0];
    if (main !== undefined && graceMs > 0) killQuietly(main, "SIGTERM");
    const timer = setTimeout(kill, main === undefined ? 0 : graceMs);
    void this.exited.then(() => clearTimeout(timer));
  }

  async #waitForEnd(): Promise<SandboxEnd> {
    // bubblewrap that is killed while it starts leaves its inner half waiting for ever, with our pipes in its hands
    this.#child.once("exit", () => {
      if (this.#firstPid !== 0) return;
      for (const pid of processesWithVariable("MODAL_SANDBOX_ID", this.id)) killQuietly(pid);
    });
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => {
      this.#child.once("error", (error) => {
        this.#output.keep("stderr", Buffer.from(messageOf(error)));
        resolve([127, null]);
      });
      this.#child.once("close", (...end) => resolve(end));
    });
    this.#ended = true;
    this.#memoryLimit?.stop();
    clearTimeout(this.#lifetime);
    // processes that entered end with the namespace; their host halves are waited for, so that none is left
    await Promise.all(
      [...this.#processes].map((child) =>
        child.exitCode === null && child.signalCode === null ? once(child, "exit") : null,
      ),
    );
    await this.#options.cleanUp();
    const killed = signal !== null || code === 128 + 9;
    const reason = this.#reason ?? (killed ? (this.#memoryKill ? "memory" : "killed") : "exited");
    return { reason, code, message: this.#describe(reason, code), outputTail: this.#output.text() };
  }

  #describe(reason: EndReason, code: number | null): string {
    const minutes = Math.round(this.#options.spec.limits.lifetimeMs / 60_000);
    const messages: Record<EndReason, string> = {
      exited: `its main process ended with code ${code}`,
      killed: "its main process was killed",
      terminated: "it was stopped",
      memory: `it used too much memory: ${this.#memoryKill}`,
      lifetime: `its lifetime of ${minutes} min was over`,
    };
    return messages[reason];
  }
}
