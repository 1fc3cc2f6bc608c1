/** One sandbox from its creation to its end. */
import { mkdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Container, startContainer } from "./container.ts";
import { EntrypointLog } from "./entrypoint-log.ts";
import { RunningExec, StdinByOffset } from "./exec.ts";
import { type Faults, take } from "./faults.ts";
import { ulid } from "./ids.ts";
import type { BuiltImage } from "./image-store.ts";
import type { Network, NetworkPolicy, SandboxNetwork } from "./network/network.ts";
import { OutputLog } from "./output-log.ts";
import { PlatformFolder } from "./platform-folder.ts";
import { type EmulatedVolume, VolumeMount } from "./volume.ts";

/** GenericResult.GenericStatus */
export const resultStatus = {
  success: 1,
  failure: 2,
  terminated: 3,
  timeout: 4,
  initFailure: 5,
  idleTimeout: 7,
  memory: 8,
} as const;

export interface Result {
  status: number;
  exitcode: number;
  exception: string;
}

/** gVisor, and so the whole sandbox, is what the kernel kills on Modal; here one process is first. */
const outOfMemory: Result = { status: resultStatus.memory, exitcode: 137, exception: "Sandbox ran out of memory" };

export interface Tunnel {
  containerPort: number;
  host: string;
  port: number;
}

export type ReadinessProbe = { tcpPort?: number; execCommand?: { argv: string[] } | null; intervalMs?: number };

export interface SandboxOptions {
  id: string;
  backend: "v1" | "v2";
  name: string;
  appId: string;
  tags: Record<string, string>;
  gpu: string | undefined;
  imageId: string;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  workdir: string;
  timeoutSecs: number;
  idleTimeoutSecs: number | undefined;
  memoryMiB: number | undefined;
  ports: readonly number[];
  policy: NetworkPolicy;
  probe: ReadinessProbe | undefined;
  volumes: readonly { volume: EmulatedVolume; path: string; readOnly: boolean; subPath: string }[];
}

export interface Surroundings {
  scratch: string;
  network: Network;
  faults: Faults;
  commitEveryMs: number;
  /** after anything that a test may wait for */
  changed(): void;
}

export class EmulatedSandbox {
  readonly options: SandboxOptions;
  readonly createdAt = Date.now();
  readonly log = new EntrypointLog();
  readonly output = [new OutputLog(), new OutputLog()] as const;
  readonly execs = new Map<string, RunningExec>();
  readonly ended: Promise<Result>;
  tags: Record<string, string>;
  state: "queued" | "starting" | "running" | "ending" | "ended" = "queued";
  taskId = "";
  tunnels: Tunnel[] = [];
  mounts: VolumeMount[] = [];
  stdin: StdinByOffset | undefined;
  /** of the last V1 message to stdin */
  stdinIndex = 0;
  readyAt: number | undefined;
  result: Result | undefined;
  container: Container | undefined;
  readonly #around: Surroundings;
  readonly #cleanup = new AsyncDisposableStack();
  readonly #settle: (result: Result) => void;
  #network: SandboxNetwork | undefined;
  #doom: Result | undefined;
  #workdir = "/";
  #committing = false;
  #lastActiveMs = Date.now();

  constructor(options: SandboxOptions, around: Surroundings) {
    this.options = options;
    this.tags = options.tags;
    this.#around = around;
    const { promise, resolve } = Promise.withResolvers<Result>();
    this.ended = promise;
    this.#settle = resolve;
  }

  get id(): string {
    return this.options.id;
  }

  get running(): boolean {
    return this.result === undefined;
  }

  /** Settles when it runs or has ended; never rejects. */
  async start(image: BuiltImage): Promise<void> {
    if (this.state !== "queued" || this.#doom) return;
    this.state = "starting";
    this.taskId = ulid("ta");
    try {
      await this.#start(image);
    } catch (error) {
      this.#doom ??= { status: resultStatus.initFailure, exitcode: 1, exception: (error as Error).message };
      await this.#end(1);
    }
    this.#around.changed();
  }

  async #start(image: BuiltImage): Promise<void> {
    const { options } = this;
    const folder = join(this.#around.scratch, options.id);
    mkdirSync(folder, { recursive: true });
    this.#cleanup.defer(() => rm(folder, { recursive: true, force: true }));
    for (const [index, mount] of options.volumes.entries())
      this.mounts.push(await VolumeMount.create(mount.volume, { ...mount, working: join(folder, `volume-${index}`) }));
    const network = await this.#around.network.open(options.policy);
    this.#network = network;
    this.#cleanup.use(network);
    const door = await PlatformFolder.open(join(folder, "door"), (path) => this.#sync(path));
    this.#cleanup.use(door);
    for (const port of options.ports) this.tunnels.push({ containerPort: port, ...(await network.tunnel(port)) });
    const { tunnelNotReady, tunnel502, tunnelSilent } = this.#around.faults;
    network.setTunnelFault({ notReady: tunnelNotReady, answer502: tunnel502, isSilent: tunnelSilent });
    this.#workdir = options.workdir || image.workdir;
    const container = await startContainer({
      layers: image.layers,
      writable: join(folder, "layer"),
      env: this.#environment(image, network),
      workdir: this.#workdir,
      argv: options.args.length > 0 ? [...image.entrypoint, ...options.args] : ["sleep", "172800"],
      binds: [
        ...Object.entries(network.files).map(([path, hostPath]) => ({ path, hostPath, readOnly: true })),
        { path: "/etc/ssl/certs/ca-certificates.crt", hostPath: this.#around.network.caBundlePath, readOnly: true },
        ...door.binds,
        ...this.mounts.map((mount) => ({ path: mount.path, hostPath: mount.hostPath, readOnly: mount.readOnly })),
      ],
      networkNamespace: network.namespacePath,
      hostname: "modal",
      output: (descriptor, data) => {
        this.log.append(descriptor, data);
        this.output[descriptor - 1]?.append(data);
      },
      ...(options.memoryMiB !== undefined && { memoryMiB: options.memoryMiB }),
    });
    this.#run(container);
  }

  #run(container: Container): void {
    this.container = container;
    this.stdin = new StdinByOffset(container.process);
    this.state = "running";
    this.#lastActiveMs = Date.now();
    const commits = setInterval(() => void this.#commit(), this.#around.commitEveryMs);
    const watch = setInterval(() => {
      this.#watchIdleness();
      if (container.ranOutOfMemory()) this.end(outOfMemory);
    }, 200);
    const lifetime = setTimeout(() => {
      this.end({ status: resultStatus.timeout, exitcode: 124, exception: "Sandbox timed out" });
    }, this.options.timeoutSecs * 1000);
    void container.exited.then((code) => {
      clearInterval(commits);
      clearInterval(watch);
      clearTimeout(lifetime);
      return this.#end(code);
    });
    if (this.#doom) container.kill();
  }

  #environment(image: BuiltImage, network: SandboxNetwork): Record<string, string> {
    return {
      HOME: "/root",
      ...image.env,
      ...network.environment,
      ...this.options.env,
      MODAL_SANDBOX_ID: this.id,
      MODAL_TASK_ID: this.taskId,
      MODAL_IMAGE_ID: this.options.imageId,
      MODAL_REGION: "us-east-1",
      MODAL_CLOUD_PROVIDER: "CLOUD_PROVIDER_AWS",
    };
  }

  exec(id: string, argv: readonly string[], options: ExecRequest): RunningExec | undefined {
    const before = this.execs.get(id);
    if (before) return before;
    if (this.state !== "running" || !this.container) return undefined;
    const { env, workdir } = options;
    const exec = new RunningExec(this.container.exec(argv, { env, workdir: workdir || this.#workdir }), options);
    this.execs.set(id, exec);
    return exec;
  }

  touch(): void {
    this.#lastActiveMs = Date.now();
  }

  /** Active: an exec runs, stdin is written, a connection through a tunnel is open. */
  #watchIdleness(): void {
    const { idleTimeoutSecs } = this.options;
    if (!idleTimeoutSecs) return;
    const busy =
      [...this.execs.values()].some((exec) => !exec.status) || (this.#network?.openTunnelConnections() ?? 0) > 0;
    if (busy) this.touch();
    else if (Date.now() - this.#lastActiveMs > idleTimeoutSecs * 1000)
      this.end({ status: resultStatus.idleTimeout, exitcode: 137, exception: "Sandbox was idle" });
  }

  /** In the background: none is begun while one is at work. */
  async #commit(): Promise<void> {
    if (this.#committing) return;
    this.#committing = true;
    try {
      for (const mount of this.mounts) await mount.commit();
    } finally {
      this.#committing = false;
    }
    this.#around.changed();
  }

  /** For `sync <mountpoint>` inside; false when the path is not on a volume. */
  async #sync(path: string): Promise<boolean> {
    const mount = this.mounts.find((candidate) => path === candidate.path || path.startsWith(`${candidate.path}/`));
    if (!mount) return false;
    // of V1 volumes Modal's guide does not say that sync commits
    if (mount.volume.version === 2) await mount.commit();
    this.#around.changed();
    return true;
  }

  /** "busy" when a file on a mount is open. */
  async reloadVolumes(): Promise<"done" | "busy"> {
    if (take(this.#around.faults, "reloadBusy")) return "busy";
    for (const mount of this.mounts) if (await this.container?.uses(mount.path)) return "busy";
    for (const mount of this.mounts) await mount.reload();
    return "done";
  }

  /** Kills everything in it; the first reason given stays. */
  end(result: Result): void {
    if (this.#doom || this.result) return;
    this.#doom = result;
    if (this.state === "queued") void this.#end(137);
    else if (this.state === "running") this.container?.kill();
  }

  async #end(code: number): Promise<void> {
    if (this.result || this.state === "ending") return;
    this.state = "ending";
    for (const mount of this.mounts) await mount.commit();
    const own = { status: code === 0 ? resultStatus.success : resultStatus.failure, exitcode: code, exception: "" };
    const result = this.#doom ?? (this.container?.ranOutOfMemory() ? outOfMemory : own);
    await this.#cleanup.disposeAsync();
    this.result = result;
    this.state = "ended";
    this.log.end();
    for (const output of this.output) output.end();
    this.#settle(result);
    this.#around.changed();
  }
}

interface ExecRequest {
  env: Record<string, string>;
  workdir: string;
  stdout: boolean;
  stderr: boolean;
  timeoutSecs?: number;
}
