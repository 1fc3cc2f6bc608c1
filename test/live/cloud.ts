/** The real cloud as the suite's questions use it: small sandboxes, each booked before it is made, and all ended after. */
import { randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import type { Image, Sandbox, SandboxCreateParams, Volume } from "modal";
import { isOlderBackend } from "../../src/sandbox/modal/sandbox-id.ts";
import type { Account } from "../../src/sandbox/modal/sdk.ts";
import { isEmulated, openLiveAccount } from "./account.ts";
import { charge, limitUsd } from "./budget.ts";
import { folderVariable, RunFolder } from "./run-folder.ts";
import { liveTag } from "./sweep.ts";

export type Backend = "v1" | "v2";
export const backends: readonly Backend[] = ["v1", "v2"];

/** longest that one of the suite's own sandboxes may live */
export const maxLifetimeMs = 300_000;
/** the least that Modal reserves */
const smallest = { cpu: 0.125, memoryMiB: 128 };
const image = "python:3.12-slim-bookworm";

interface Said {
  code: number;
  stdout: string;
  stderr: string;
}

export class Cloud implements AsyncDisposable {
  readonly isEmulator: boolean;
  readonly folder: RunFolder;
  readonly #accounts: Record<Backend, Account>;
  readonly #limitUsd: number;
  readonly #made: Sandbox[] = [];
  readonly #volumes: string[] = [];

  private constructor(accounts: Record<Backend, Account>, folder: RunFolder) {
    this.#accounts = accounts;
    this.folder = folder;
    this.isEmulator = isEmulated(accounts.v2);
    this.#limitUsd = limitUsd(process.env);
  }

  static async open(): Promise<Cloud> {
    const v1 = await openLiveAccount("v1");
    const v2 = await openLiveAccount("v2");
    return new Cloud({ v1, v2 }, openRunFolder());
  }

  account(backend: Backend = "v2"): Account {
    return this.#accounts[backend];
  }

  /** A sandbox that sleeps, changed by `params`; its python is the only program of note. The budget may refuse it. */
  async make(backend: Backend, params: SandboxCreateParams = {}): Promise<Sandbox> {
    const { client, app } = this.account(backend);
    const wanted = { ...smallest, timeoutMs: maxLifetimeMs, command: ["sleep", "600"], ...params };
    this.charge(`a sandbox of ${backend}`, wanted.timeoutMs, {
      gpu: wanted.gpu,
      cpuCores: wanted.cpu,
      memoryMiB: wanted.memoryMiB,
    });
    const sandbox = await client.sandboxes.create(await app(), this.image(backend), {
      ...wanted,
      tags: { ...params.tags, [liveTag]: "1" },
    });
    this.#made.push(sandbox);
    return sandbox;
  }

  charge(what: string, lifetimeMs: number, reserved: Parameters<typeof charge>[2]["reserved"]): void {
    if (lifetimeMs > maxLifetimeMs && !what.includes("trusted")) throw new Error(`${what} would live too long`);
    charge(this.folder, this.#limitUsd, { what, reserved, lifetimeMs });
  }

  /** A second handle, as another process would have it. */
  async handle(sandbox: Sandbox): Promise<Sandbox> {
    const backend = isOlderBackend(sandbox.sandboxId) ? "v1" : "v2";
    return await this.account(backend).client.sandboxes.fromId(sandbox.sandboxId);
  }

  /** An empty one of the kind that modal-sb uses. */
  async volume(): Promise<Volume> {
    const name = `${liveTag}-${randomBytes(6).toString("hex")}`;
    this.adoptVolume(name);
    return await this.account().client.volumes.fromName(name, { createIfMissing: true, version: 2 });
  }

  /** One that is about to be made by others is deleted in the end, too. `name` is Modal's. */
  adoptVolume(name: string): void {
    this.folder.addVolume(name);
    this.#volumes.push(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ends = await Promise.allSettled(this.#made.map((sandbox) => sandbox.terminate({ wait: true })));
    // the sweep after the run tries again, and names what is left
    const { client } = this.account();
    await Promise.allSettled(this.#volumes.map((name) => client.volumes.delete(name, { allowMissing: true })));
    for (const account of Object.values(this.#accounts)) account.client.close();
    const failed = ends.find((end) => end.status === "rejected");
    if (failed) throw failed.reason;
  }

  /** Python on Debian, and nothing of ours. */
  image(backend: Backend = "v2"): Image {
    return this.account(backend).client.images.fromRegistry(image).dockerfileCommands(["ENTRYPOINT []"]);
  }
}

/** A GPU for sandboxes of the older backend, when the user has asked for one: the cheapest. Without it they are the same, on a CPU. */
export function askedGpu(): { gpu?: string } {
  return process.env["MODAL_SB_LIVE_GPU"] === "1" ? { gpu: "T4" } : {};
}

export function nameOf(backend: Backend): string {
  return backend.toUpperCase();
}

/** Of the run that this process belongs to. */
function openRunFolder(): RunFolder {
  const path = process.env[folderVariable];
  if (path === undefined) throw new Error("the live suite is run by `npm run test:live`, which cleans up after it");
  return new RunFolder(path);
}

/** What a program says, and its exit code. Read while it runs: the SDK's other ways stop at a full pipe. */
export async function run(sandbox: Sandbox, command: readonly string[], input = ""): Promise<Said> {
  const started = await sandbox.exec([...command]);
  const reading = Promise.all([text(started.stdout), text(started.stderr)]);
  if (input !== "") await started.stdin.writeText(input);
  await started.stdin.close();
  const [stdout, stderr] = await reading;
  return { code: await started.wait(), stdout, stderr };
}

/** What a script prints; an error with its words when it fails. */
export async function shell(sandbox: Sandbox, script: string): Promise<string> {
  const { code, stdout, stderr } = await run(sandbox, ["sh", "-c", script]);
  if (code !== 0) throw new Error(`"${script}" ended with ${code}: ${stderr}`);
  return stdout;
}
