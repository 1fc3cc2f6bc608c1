/** A hand on a sandbox of another living process of this user: to run programs in it. Its maker alone ends it. */
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { SandboxError } from "../../errors.ts";
import type { ExecOptions, PortAddress, Sandbox, SandboxEnd, SandboxProcess } from "../provider.ts";
import { type Entry, enter } from "./entry.ts";
import type { HostPrograms } from "./host-programs.ts";
import { identityFor } from "./identity.ts";
import { environmentOf, parentOf } from "./process-table.ts";
import type { FoundRecord } from "./state-folders.ts";

/** the kernel tells nobody of the end of another one's child */
const lookMs = 200;

export interface ForeignSandboxOptions {
  found: FoundRecord;
  programs: HostPrograms;
  address(port: number): PortAddress;
  /** false when its record is gone, or its maker */
  isAlive(): boolean;
}

export class ForeignSandbox implements Sandbox {
  readonly id: string;
  readonly name: string;
  readonly role: Sandbox["role"];
  readonly tags: Sandbox["tags"];
  readonly startedAt: Date;
  readonly endsAt: Date;
  readonly #options: ForeignSandboxOptions;
  readonly #entry: Entry;
  readonly #processes = new Set<ChildProcess>();
  readonly #released = new AbortController();
  #exited: Promise<SandboxEnd> | undefined;

  private constructor(options: ForeignSandboxOptions, entry: Entry) {
    const { record } = options.found;
    this.id = record.id;
    this.name = record.name;
    this.role = record.role;
    this.tags = record.tags;
    this.startedAt = new Date(record.startedAt);
    this.endsAt = new Date(record.endsAt ?? Number.NaN);
    this.#options = options;
    this.#entry = entry;
  }

  /** undefined when it has ended, or is not as far that it could be entered. */
  static open(options: ForeignSandboxOptions): ForeignSandbox | undefined {
    const entry = entryOf(options);
    return entry && new ForeignSandbox(options, entry);
  }

  get exited(): Promise<SandboxEnd> {
    this.#exited ??= this.#untilGone();
    return this.#exited;
  }

  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<SandboxProcess> {
    // the number of its first process may be another's by now
    if (entryOf(this.#options)?.pid !== this.#entry.pid) throw new SandboxError(`The sandbox "${this.name}" has ended`);
    return enter(this.#entry, argv, options, this.#processes);
  }

  address(port: number): PortAddress {
    return this.#options.address(port);
  }

  async refreshVolumes(): Promise<void> {
    // local volumes are folders: every commit is visible at once
  }

  async hold(): Promise<void> {
    // it lives as long as the process that made it
  }

  status(): "running" | "ended" {
    return this.#options.isAlive() ? "running" : "ended";
  }

  async terminate(): Promise<void> {
    throw new SandboxError(`The sandbox "${this.name}" is not ours to end: process ${this.#owner} does that`, {
      hint: `modal-sb stop ${this.tags["session"] ?? ""}`.trim(),
    });
  }

  async release(): Promise<void> {
    this.#released.abort();
    // what runs in the sandbox for this handle has nobody to talk to any more
    for (const child of this.#processes) child.kill("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  get #owner(): number {
    return this.#options.found.record.ownerPid;
  }

  async #untilGone(): Promise<SandboxEnd> {
    while (this.#options.isAlive()) {
      if (this.#released.signal.aborted) return await new Promise<never>(() => {});
      await setTimeout(lookMs);
    }
    const message = `it ended with, or by, process ${this.#owner}`;
    return { reason: "terminated", code: null, message, outputTail: "" };
  }
}

/**
 * How to get in. The environment is that of bubblewrap's outer half, which is no process of the sandbox: root's programs
 * would otherwise start with variables of the agent's choice. Whose child it is proves that the number of the first
 * process is not of another sandbox, or of none.
 */
function entryOf({ found: { record, folder }, programs }: ForeignSandboxOptions): Entry | undefined {
  const pid = firstPidOf(`${folder}/bwrap.json`);
  const outer = pid === undefined ? undefined : parentOf(pid);
  if (pid === undefined || outer === undefined || parentOf(outer) !== record.ownerPid) return undefined;
  // the launch chain's shell has put its own folders there
  const { PWD: _inside, OLDPWD: _before, ...environment } = environmentOf(outer);
  if (environment["MODAL_SANDBOX_ID"] !== record.id) return undefined;
  const { network, limits, workingDirectory } = record.entry;
  return { programs, identity: identityFor(record.role), pid, network, limits, workingDirectory, environment };
}

function firstPidOf(path: string): number | undefined {
  try {
    return (JSON.parse(readFileSync(path, "utf8")) as { "child-pid": number })["child-pid"];
  } catch {
    // it is starting, or has ended
    return undefined;
  }
}
