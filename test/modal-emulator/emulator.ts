/**
 * Modal's cloud on this machine, for the subset of its API that the SDK's sandboxes need: the official clients talk to it
 * over gRPC, sandboxes are real process trees with a root and a network of their own. Needs root. What it cannot know of
 * the real thing (page sizes, exact words, timing) is chosen, and not tested against.
 */
import { EventEmitter } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Metadata, status } from "@grpc/grpc-js";
import { type Faults, noFaults, take } from "./faults.ts";
import { token } from "./ids.ts";
import { imageCalls } from "./image-calls.ts";
import { ImageStore } from "./image-store.ts";
import { isAlive } from "./is-alive.ts";
import { sweepMemoryGroups } from "./memory-group.ts";
import { missingHere } from "./missing-here.ts";
import { type Network, startNetwork } from "./network/network.ts";
import { retryPolicyDetails } from "./retry-policy.ts";
import { Router } from "./router.ts";
import { type Call, type Hooks, RpcError, serve } from "./rpc.ts";
import { type Result, type EmulatedSandbox as Running, resultStatus } from "./sandbox.ts";
import { SandboxRegistry } from "./sandbox-registry.ts";
import { stdioCalls } from "./stdio-calls.ts";
import { Workspace } from "./workspace.ts";

export interface EmulatorOptions {
  /** named secrets of the workspace: name → variables */
  secrets?: Record<string, Record<string, string>>;
  /**
   * The emulated internet: hostname → "127.0.0.1:PORT" of a plain HTTP server. TLS is terminated with the emulator's own
   * CA, which sandboxes trust.
   */
  world?: Record<string, string>;
  faults?: Partial<Faults>;
  /** how often volumes are committed in the background; 500 */
  commitEveryMs?: number;
}

/** What a test may know of a sandbox; a copy of its state. */
export interface EmulatedSandbox {
  id: string;
  name: string;
  appId: string;
  tags: Readonly<Record<string, string>>;
  /** "H100", "H100:2" */
  gpu: string | undefined;
  backend: "v1" | "v2";
  running: boolean;
  /** empty while it is queued */
  taskId: string;
  /** status as in GenericResult */
  result?: Result;
  /** milliseconds since the epoch */
  createdAt: number;
  /** allowed domains; undefined when the network is open or blocked */
  domains: readonly string[] | undefined;
  timeoutSecs: number;
  idleTimeoutSecs: number | undefined;
  /** what the client gave for it, named secrets included */
  env: Readonly<Record<string, string>>;
  args: readonly string[];
}

/** Disposal ends all sandboxes, removes scratch files, and throws when there were unexpected calls. */
export interface Emulator extends AsyncDisposable {
  /** for a client's process */
  readonly environment: Record<string, string>;
  /** every call, in order */
  readonly calls: readonly Call[];
  /** calls without a handler, answered UNIMPLEMENTED */
  readonly unexpected: readonly string[];
  /** may be changed at any time */
  readonly faults: Faults;
  readonly network: Network;
  /** all that were ever made */
  sandboxes(): EmulatedSandbox[];
  volumes(): { name: string; version: number; committedPath: string }[];
  images(): { id: string; commands: readonly string[] }[];
  /** For clients that build images in another way; the id of an image of one layer. */
  buildImage(commands: readonly string[]): Promise<string>;
  /** Takes its machine away: SIGKILL, status terminated, nobody asked. Resolves when it has ended. */
  preempt(sandboxId: string): Promise<void>;
  /** Ends it with this status of GenericResult. Resolves when it has ended. */
  kill(sandboxId: string, status: number): Promise<void>;
  /** at the start of a call, before anything happens */
  onCall(listener: (call: { method: string }) => void): () => void;
  /** Rejects after three minutes, with the calls so far. */
  waitFor(predicate: (emulator: Emulator) => boolean): Promise<void>;
}

/** Why it cannot run on this machine; undefined when it can. */
export async function whyNot(): Promise<string | undefined> {
  return missingHere();
}

export async function startEmulator(options: EmulatorOptions = {}): Promise<Emulator> {
  sweepScratch();
  sweepMemoryGroups();
  await using undo = new AsyncDisposableStack();
  const scratch = mkdtempSync(join(tmpdir(), `modal-emulator-${process.pid}-`));
  undo.defer(() => rmSync(scratch, { recursive: true, force: true, maxRetries: 5 }));
  const network = undo.use(await startNetwork({ folder: join(scratch, "network"), world: options.world ?? {} }));
  const emulator = new RunningEmulator(scratch, network, options);
  await emulator.listen();
  undo.move();
  return emulator;
}

/** Folders of emulators that were killed. */
function sweepScratch(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^modal-emulator-(\d+)-/.exec(name)?.[1];
    if (pid && !isAlive(Number(pid))) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}

/** Calls that the throttle fault leaves alone: they come before what a test is about. */
const neverThrottled = new Set(["AuthTokenGet", "ClientHello"]);

class RunningEmulator implements Emulator {
  readonly calls: Call[] = [];
  readonly unexpected: string[] = [];
  readonly faults: Faults;
  readonly environment: Record<string, string> = {};
  readonly network: Network;
  readonly #events = new EventEmitter().setMaxListeners(0);
  readonly #scratch: string;
  readonly #workspace: Workspace;
  readonly #images: ImageStore;
  readonly #registry: SandboxRegistry;
  #close = () => {};

  constructor(scratch: string, network: Network, options: EmulatorOptions) {
    this.network = network;
    this.#scratch = scratch;
    this.faults = { ...noFaults(), ...options.faults };
    this.#workspace = new Workspace(scratch, structuredClone(options.secrets ?? {}));
    this.#images = new ImageStore(scratch, () => this.faults.buildFails);
    this.#registry = new SandboxRegistry(this.#workspace, this.#images, {
      ...{ scratch, network, faults: this.faults, commitEveryMs: options.commitEveryMs ?? 500 },
      changed: () => this.#events.emit("change"),
    });
  }

  async listen(): Promise<void> {
    const client = {
      AuthTokenGet: () => ({ token: token(3600, {}) }),
      ClientHello: () => ({ warning: "", imageBuilderVersion: "2025.06" }),
      EnvironmentGetOrCreate: ({ deploymentName }: { deploymentName: string }) => ({
        environmentId: "en-emulator",
        metadata: {
          name: deploymentName || "main",
          settings: { imageBuilderVersion: "2025.06", webhookSuffix: "" },
        },
      }),
      ...this.#workspace.handlers(),
      ...imageCalls(this.#images, this.#workspace),
      ...this.#registry.handlers(),
      ...stdioCalls(this.#registry, this.faults),
    };
    const router = new Router(this.#registry, this.#workspace, this.faults).handlers();
    const { port, close } = await serve({ client, router }, this.#hooks(new Set(Object.keys(client))));
    this.#close = close;
    this.#registry.routerAddress = `127.0.0.1:${port}`;
    Object.assign(this.environment, {
      MODAL_SERVER_URL: `http://127.0.0.1:${port}`,
      MODAL_TOKEN_ID: "ak-emulator",
      MODAL_TOKEN_SECRET: "as-emulator",
      MODAL_CONFIG_PATH: join(this.#scratch, "no-modal.toml"),
      MODAL_ENVIRONMENT: "main",
    });
  }

  #hooks(controlPlane: ReadonlySet<string>): Hooks {
    return {
      started: (call) => {
        this.calls.push(call);
        this.#events.emit("call", call);
        this.#events.emit("change");
      },
      ended: () => this.#events.emit("change"),
      unexpected: (method) => {
        this.unexpected.push(method);
        this.#events.emit("change");
      },
      gate: async ({ method }) => {
        if (!controlPlane.has(method) || neverThrottled.has(method) || !take(this.faults, "throttle")) return;
        const metadata = new Metadata();
        metadata.set("grpc-status-details-bin", retryPolicyDetails(0.2));
        throw new RpcError(status.RESOURCE_EXHAUSTED, "too many requests", metadata);
      },
    };
  }

  sandboxes(): EmulatedSandbox[] {
    return this.#registry.all.map(viewOf);
  }

  volumes(): { name: string; version: number; committedPath: string }[] {
    return [...this.#workspace.volumes.values()].map(({ name, version, committedPath }) => ({
      name,
      version,
      committedPath,
    }));
  }

  images(): { id: string; commands: readonly string[] }[] {
    return [...this.#images.images.values()].map(({ id, commands }) => ({ id, commands }));
  }

  async buildImage(commands: readonly string[]): Promise<string> {
    const image = await this.#images.getOrCreate({ commands, baseImages: [], secretEnv: {}, force: false });
    await image.built;
    return image.id;
  }

  preempt(sandboxId: string): Promise<void> {
    return this.kill(sandboxId, resultStatus.terminated);
  }

  async kill(sandboxId: string, status: number): Promise<void> {
    const sandbox = this.#registry.get(sandboxId);
    sandbox.end({ status, exitcode: 137, exception: "" });
    await sandbox.ended;
  }

  onCall(listener: (call: { method: string }) => void): () => void {
    this.#events.on("call", listener);
    return () => this.#events.off("call", listener);
  }

  async waitFor(predicate: (emulator: Emulator) => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = () => predicate(this) && resolve();
    const timer = new AbortController();
    const tooLate = delay(180_000, undefined, { signal: timer.signal }).then(() => {
      throw new Error(`the emulator waited in vain for ${predicate}; calls: ${this.calls.map((call) => call.method)}`);
    });
    tooLate.catch(() => {});
    this.#events.on("change", look);
    try {
      look();
      await Promise.race([promise, tooLate]);
    } finally {
      this.#events.off("change", look);
      timer.abort();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
    for (const sandbox of this.#registry.all)
      sandbox.end({ status: resultStatus.terminated, exitcode: 137, exception: "the emulator has ended" });
    await Promise.all(this.#registry.all.map((sandbox) => sandbox.ended));
    await this.#images.settled();
    await this.network[Symbol.asyncDispose]();
    rmSync(this.#scratch, { recursive: true, force: true, maxRetries: 5 });
    if (this.unexpected.length > 0)
      throw new Error(`the emulator has no handlers for calls that came: ${this.unexpected.join(", ")}`);
  }
}

function viewOf(sandbox: Running): EmulatedSandbox {
  const { options } = sandbox;
  const { id, name, appId, gpu, backend, timeoutSecs, idleTimeoutSecs, env, args, policy } = options;
  return {
    ...{ id, name, appId, gpu, backend, timeoutSecs, idleTimeoutSecs, env, args },
    tags: { ...sandbox.tags },
    running: sandbox.running,
    taskId: sandbox.taskId,
    createdAt: sandbox.createdAt,
    domains: policy.kind === "allowlist" ? policy.domains : undefined,
    ...(sandbox.result && { result: sandbox.result }),
  };
}
