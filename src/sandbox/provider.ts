/**
 * What every provider offers. Nothing outside sandbox/ branches on a provider's name: differences are `capabilities`.
 * One contract suite, test/contract/, runs against each.
 */
import type { Readable, Writable } from "node:stream";
import type { Secret } from "../secret.ts";

export type Role = "agent" | "proxy" | "syncer";

/**
 * Where a sandbox may connect to.
 * `host`: for trusted roles only. The host's own network, or where the provider can keep a role to them, `hostnames` alone.
 * A list: these hostnames and the sandbox named by `proxy`, nothing else; empty means the proxy alone.
 */
export type EgressPolicy =
  | { kind: "host"; hostnames?: readonly string[] }
  | {
      kind: "allow";
      /** exact hostnames, or `*.example.com` for the names below one */
      hostnames: readonly string[];
      /** address of the credential proxy, as its Sandbox gave it */
      proxy?: PortAddress;
    }
  | { kind: "dangerously-allow-all-hostnames"; proxy?: PortAddress };

/** Read-only files of the host, placed in the sandbox. */
export interface FileMount {
  hostPath: string;
  path: string;
  /** a copy, taken at the start: readable inside whatever its modes on the host; links in it stay links. For small folders */
  copy?: boolean;
  /** the npm package that `hostPath` is: a provider far away installs it there instead of sending it */
  npmPackage?: { name: string; version: string };
}

/**
 * A folder that outlives the sandbox. One sandbox at a time may write to it; others may read it meanwhile. Always a whole
 * volume: a folder inside one could be made a link to anywhere by an earlier sandbox.
 */
interface VolumeMount {
  volume: Volume;
  path: string;
  readOnly?: boolean;
}

export interface Limits {
  memoryMiB: number;
  processes: number;
  /** largest file that may be written */
  fileSizeMiB: number;
  lifetimeMs: number;
}

/** What a sandbox runs on, where the provider lets one choose. */
export interface Machine {
  /** in order of preference, as the provider names them, e.g. "H100", "A10", "A100-80GB:2"; empty: none */
  gpus: readonly string[];
  /** physical cores; undefined: the provider's default for the role */
  cpuCores?: number;
  /** undefined: anywhere */
  regions?: readonly string[];
  /** longest wait for a machine, in milliseconds */
  maxWaitMs: number;
}

/** A credential that the provider keeps under a name and hands to the sandbox itself; the host need not know its value. */
export interface StoredSecret {
  storedAs: string;
  /** the variable in it */
  key: string;
}

export interface SandboxSpec {
  role: Role;
  /** unique among running sandboxes of the provider */
  name: string;
  /** argument vector of the main process; its end is the sandbox's end */
  command: readonly string[];
  /** the whole environment besides what the provider itself sets; never holds a credential */
  env: Readonly<Record<string, string>>;
  /** for trusted roles: readable by the main process as /run/secrets/<name>, in no environment and no argument */
  secrets: Readonly<Record<string, Secret | StoredSecret>>;
  workingDirectory: string;
  files: readonly FileMount[];
  volumes: readonly VolumeMount[];
  limits: Limits;
  /** undefined: no GPU, and the provider's own choice */
  machine?: Machine;
  egress: EgressPolicy;
  /** ports that the main process serves, at Provider.listenAt; see PortAddress */
  ports: readonly number[];
  tags: Readonly<Record<string, string>>;
}

/** How a process in another sandbox reaches a port. */
export interface PortAddress {
  url: string;
  /** unix socket inside the calling sandbox, where the provider has one: faster, and needs no network */
  socketPath?: string;
  /** for the provider that made it */
  hostPath?: string;
}

export interface ExecOptions {
  /** the provider ends the process after so long, in milliseconds, where it can without the sandbox's help; undefined: never */
  longestMs?: number;
  /** added to the sandbox's own environment */
  env?: Readonly<Record<string, string>>;
  workingDirectory?: string;
}

/** A process in a sandbox. `exited` never rejects. */
export interface SandboxProcess {
  stdin: Writable;
  stdout: Readable;
  stderr: Readable;
  exited: Promise<{ code: number | null; signal: string | null }>;
  kill(signal: NodeJS.Signals): void;
}

/**
 * Why a sandbox ended. `killed` is a signal from somebody else, `exited` the main process's own end, `preempted` the
 * provider's need of the machine, `idle` that no host asked for it any longer (see Sandbox.hold).
 */
export type EndReason = "exited" | "killed" | "terminated" | "memory" | "lifetime" | "preempted" | "idle";

export interface SandboxEnd {
  reason: EndReason;
  code: number | null;
  /** one sentence for the user */
  message: string;
  /** the end of the main process's stdout, then that of its stderr, at most 8 KiB together, as it wrote them (hostile) */
  outputTail: string;
}

/**
 * Contract: a created sandbox runs until its main process ends, a limit is met, it is terminated, or the process that
 * made it is gone, whatever killed that one: at once, or where sandboxes are detached (`capabilities.detach`), minutes
 * after the last `hold` is over. `exited` never rejects. `terminate` may be called twice and resolves when no process,
 * mount, socket or scratch file is left.
 */
export interface Sandbox extends AsyncDisposable {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly tags: Readonly<Record<string, string>>;
  readonly startedAt: Date;
  /** when its lifetime is over */
  readonly endsAt: Date;
  readonly exited: Promise<SandboxEnd>;
  exec(argv: readonly string[], options?: ExecOptions): Promise<SandboxProcess>;
  /** The address at which agent sandboxes reach `port`, one of the spec's. */
  address(port: number): PortAddress;
  /** Makes other sandboxes' commits to the volumes visible, where the provider needs that; nothing may be open on them. */
  refreshVolumes(): Promise<void>;
  /**
   * Keeps a detached sandbox for at least so long, whether or not this process lives; never beyond its lifetime. `isNew`: in place of
   * the last hold that was so, which may have been for a day.
   */
  hold(ms: number, isNew?: boolean): Promise<void>;
  status(): "running" | "ended";
  /** `graceMs`: how long the main process may take to end after SIGTERM; 0 kills at once. */
  terminate(options?: { graceMs?: number }): Promise<void>;
  /** Gives up this handle without ending a detached sandbox; `exited` does not resolve any more. */
  release(): Promise<void>;
}

export interface Volume extends AsyncDisposable {
  readonly name: string;
  /** folder on the host, where the provider keeps volumes there */
  readonly hostPath: string | undefined;
}

export interface SandboxRecord {
  id: string;
  name: string;
  role: Role;
  tags: Record<string, string>;
  startedAt: string;
  /** when its lifetime is over, as an ISO time; undefined: not known */
  endsAt?: string;
  /** e.g. "A10"; undefined: none */
  gpu?: string;
  /** list price of what it reserves, in US dollars an hour; undefined: it costs nothing, or the price is not known */
  usdPerHour?: number;
  /** the process on this machine that it ends with; undefined: it is detached */
  ownerPid?: number;
}

interface Capabilities {
  /** true when a sandbox survives the process that made it */
  detach: boolean;
  /** true when what one sandbox commits to a volume shows in others without `refreshVolumes` */
  sharedVolumes: boolean;
  /** true when the provider keeps credentials by name: see StoredSecret */
  storedSecrets: boolean;
  /** longest lifetime of a sandbox, in milliseconds; undefined: any */
  maxLifetimeMs?: number;
  /** true when SQLite may write to a volume: nothing that it committed there is lost with the sandbox */
  databasesOnVolumes: boolean;
}

/** One thing that a provider needs from the machine. */
export interface Requirement {
  name: string;
  /** `missing` stops sandboxes from working, `warning` does not */
  state: "ok" | "warning" | "missing";
  detail: string;
  /** what to run or change; undefined when nothing is to be done */
  remedy?: string;
}

export interface CreateOptions {
  signal?: AbortSignal | undefined;
  /** one sentence for the user while it takes long: an image is built, a GPU is waited for */
  onProgress?: ((words: string) => void) | undefined;
}

/** Every waiting call takes an AbortSignal; an aborted create leaves nothing behind. Disposal ends what `release` was not called for. */
export interface Provider extends AsyncDisposable {
  readonly name: string;
  /** where in the provider's realm sandboxes and volumes are, e.g. "modal-sb" for an app; "" where there is one place only */
  readonly place: string;
  readonly capabilities: Capabilities;
  /** What is there and what is missing, for `doctor`, these secrets included; the checks really run. */
  requirements(secrets?: readonly StoredSecret[]): Promise<Requirement[]>;
  /** Throws a UsageError for what no sandbox here can have, before anything is made; nobody is asked. */
  check(spec: Pick<SandboxSpec, "egress" | "machine">): void;
  create(spec: SandboxSpec, options?: CreateOptions): Promise<Sandbox>;
  /** Where a sandbox's main process listens so that `port` is served: a unix socket's path, or "0.0.0.0:8080". */
  listenAt(port: number): string;
  /**
   * Where the next sandbox of that name will serve `port`, so that others can be made beside it; undefined when the
   * provider knows only afterwards.
   */
  addressAhead(name: string, port: number): PortAddress | undefined;
  /**
   * The running sandbox of that name: of this process, and, where sandboxes are detached, any that is proven to be this
   * installation's. One that bears the name and is not is a BusyError.
   */
  find(name: string): Promise<Sandbox | undefined>;
  /** Running sandboxes of this installation, whatever process made them, whose tags include all of `tags`. */
  list(tags?: Readonly<Record<string, string>>): Promise<SandboxRecord[]>;
  /** A hand on a sandbox that `list` gave, to exec in it and to end it; undefined when it has ended. Its `exited` may come late. */
  open(record: SandboxRecord): Promise<Sandbox | undefined>;
  /** The last lines of a main process's output, also after its end where the provider keeps them; hostile. undefined: not kept. */
  logs(record: Pick<SandboxRecord, "id">): Promise<string | undefined>;
  /** Opens a volume, made when missing, locked against a second writer: a BusyError names the holder. */
  volume(name: string): Promise<Volume>;
  /** A volume to read from, without a lock: its writer may be at work. undefined when there is none. */
  peek(name: string): Promise<Volume | undefined>;
}
