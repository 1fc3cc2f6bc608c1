/** The local provider: bubblewrap on this machine. What a sandbox sees is put together here. */
import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { BusyError, SandboxError, UsageError } from "../../errors.ts";
import type {
  CreateOptions,
  PortAddress,
  Provider,
  Requirement,
  Sandbox,
  SandboxRecord,
  SandboxSpec,
  Volume,
} from "../provider.ts";
import type { ProviderOptions } from "../sandbox.ts";
import { fileBinds, toolchainBinds, volumeBinds } from "./binds.ts";
import { type Bind, bwrapArguments } from "./bwrap-arguments.ts";
import { curatedEtc, proxyHostname } from "./curated-etc.ts";
import { ForeignSandbox } from "./foreign-sandbox.ts";
import { findHostPrograms, type HostPrograms } from "./host-programs.ts";
import { type Identity, identityFor } from "./identity.ts";
import { type Door, launchFds, launchPlan, networkOf } from "./launch.ts";
import { LocalSandbox } from "./local-sandbox.ts";
import { type PackageIndexes, readPackageIndexes } from "./package-indexes.ts";
import { findPython, type Python } from "./python.ts";
import { checkRequirements, pythonMissing } from "./requirements.ts";
import {
  findRecord,
  liveRecords,
  openStateFolders,
  removeFolder,
  type StateFolders,
  sweepDeadRecords,
  writeRecord,
} from "./state-folders.ts";
import { openVolume, peekVolume } from "./volume.ts";

const proxyDoorSocket = "/run/proxy";
const egressDoor: Door = { port: 3128, socketPath: "/run/egress/egress.sock" };
/** folder in which a sandbox serves port N, as the unix socket N.sock */
const portsFolder = "/run/ports";

/** Finds what the provider needs, once. A SandboxError says what is missing. */
export async function createLocalProvider(options: ProviderOptions): Promise<Provider> {
  const folders = openStateFolders(resolve(options.stateFolder), options.hostEnvironment["XDG_RUNTIME_DIR"]);
  sweepDeadRecords(folders);
  return new LocalProvider(folders, options.hostEnvironment);
}

class LocalProvider implements Provider {
  readonly name = "local";
  readonly place = "";
  readonly capabilities = {
    detach: false,
    sharedVolumes: true,
    storedSecrets: false,
    databasesOnVolumes: true,
  };
  readonly #folders: StateFolders;
  readonly #environment: ProviderOptions["hostEnvironment"];
  readonly #sandboxes = new Set<Sandbox>();
  readonly #starting = new Set<string>();
  /** ids of sandboxes that were asked for ahead, by name */
  readonly #ids = new Map<string, string>();

  constructor(folders: StateFolders, environment: ProviderOptions["hostEnvironment"]) {
    this.#folders = folders;
    this.#environment = environment;
  }

  requirements(): Promise<Requirement[]> {
    return checkRequirements(this.#environment, this.#folders);
  }

  check({ machine }: Pick<SandboxSpec, "machine">): void {
    if (machine && machine.gpus.length > 0) throw noGpu(machine.gpus);
  }

  async create(spec: SandboxSpec, { signal }: CreateOptions = {}): Promise<Sandbox> {
    signal?.throwIfAborted();
    this.check(spec);
    const programs = findHostPrograms(this.#environment["PATH"]);
    const python = findPython(this.#environment["PATH"], this.#folders.cache);
    if (!python) throw pythonMissing();
    if (this.#starting.has(spec.name) || liveRecords(this.#folders).some((record) => record.name === spec.name)) {
      throw new BusyError(`A sandbox named "${spec.name}" is running`);
    }
    this.#starting.add(spec.name);
    try {
      const sandbox = await startSandbox(
        {
          spec,
          id: this.#takeId(spec.name),
          programs,
          python,
          folders: this.#folders,
          indexes: readPackageIndexes(this.#environment),
        },
        signal,
      );
      this.#sandboxes.add(sandbox);
      void sandbox.exited.then(() => this.#sandboxes.delete(sandbox));
      return sandbox;
    } finally {
      this.#starting.delete(spec.name);
    }
  }

  listenAt(port: number): string {
    return `${portsFolder}/${port}.sock`;
  }

  addressAhead(name: string, port: number): PortAddress {
    const id = this.#ids.get(name) ?? newId();
    this.#ids.set(name, id);
    const running = join(this.#folders.running, id);
    mkdirSync(join(running, "ports"), { recursive: true, mode: 0o755 });
    return portAddress(running, port);
  }

  #takeId(name: string): string {
    const id = this.#ids.get(name) ?? newId();
    this.#ids.delete(name);
    return id;
  }

  async find(name: string): Promise<Sandbox | undefined> {
    return [...this.#sandboxes].find((sandbox) => sandbox.name === name);
  }

  async list(tags: Readonly<Record<string, string>> = {}): Promise<SandboxRecord[]> {
    return liveRecords(this.#folders).filter((record) =>
      Object.entries(tags).every(([key, value]) => record.tags[key] === value),
    );
  }

  async open({ id }: SandboxRecord): Promise<Sandbox | undefined> {
    const own = [...this.#sandboxes].find((sandbox) => sandbox.id === id);
    if (own) return own;
    const found = findRecord(this.#folders, id);
    if (!found) return undefined;
    const { entry, name } = found.record;
    return ForeignSandbox.open({
      found,
      programs: findHostPrograms(this.#environment["PATH"]),
      address(port) {
        if (entry.ports.includes(port)) return portAddress(found.folder, port);
        throw new SandboxError(`The sandbox "${name}" serves no port ${port}`);
      },
      isAlive: () => findRecord(this.#folders, id) !== undefined,
    });
  }

  async logs(): Promise<undefined> {
    return undefined;
  }

  async volume(name: string): Promise<Volume> {
    return openVolume(this.#folders.volumes, name);
  }

  async peek(name: string): Promise<Volume | undefined> {
    return peekVolume(this.#folders.volumes, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#sandboxes].map((sandbox) => sandbox.terminate()));
    for (const id of this.#ids.values()) removeFolder(join(this.#folders.running, id));
  }
}

function noGpu(gpus: readonly string[]): UsageError {
  return new UsageError(`The local provider has no GPU to give (${gpus.join(", ")})`, {
    hint: "--on modal runs the agent on one",
  });
}

function newId(): string {
  return `sb-${randomBytes(8).toString("hex")}`;
}

interface StartParts {
  spec: SandboxSpec;
  id: string;
  programs: HostPrograms;
  python: Python;
  folders: StateFolders;
  indexes: PackageIndexes;
}

async function startSandbox(parts: StartParts, signal: AbortSignal | undefined): Promise<LocalSandbox> {
  const { spec, id, folders, programs } = parts;
  const identity = identityFor(spec.role);
  const running = join(folders.running, id);
  const scratch = join(folders.scratch, id);
  await using undo = new AsyncDisposableStack();
  const cleanUp = async () => {
    await filter?.[Symbol.asyncDispose]();
    removeFolder(scratch);
    removeFolder(running);
  };
  let filter: AsyncDisposable | undefined;
  undo.defer(cleanUp);

  makeFolders(parts, { running, scratch }, identity);
  const network = networkOf(spec);
  const doors: Door[] = [];
  const binds: Bind[] = [
    ...(await curatedEtc(join(running, "etc"), id, network)),
    ...toolchainBinds(parts.python, parts.indexes),
    { hostPath: join(scratch, "tmp"), path: "/tmp", writable: true },
    ...volumeBinds(spec, identity),
    ...(await fileBinds(spec, join(running, "copies"), identity)),
  ];
  if (spec.ports.length > 0) binds.push({ hostPath: join(running, "ports"), path: portsFolder, writable: true });
  if (spec.egress.kind !== "host") {
    const egressFolder = join(running, "egress");
    mkdirSync(egressFolder, { mode: 0o755 });
    const { endpoints } = parts.indexes;
    // loaded here, while bubblewrap makes the proxy's sandbox: it takes longer to load than to start
    const { startEgressFilter } = await import("./egress-filter.ts");
    filter = await startEgressFilter({
      socketPath: join(egressFolder, "egress.sock"),
      policy: spec.egress,
      trusted: endpoints,
    });
    binds.push({ hostPath: egressFolder, path: dirname(egressDoor.socketPath), writable: false });
    doors.push(egressDoor);
    const { proxy } = spec.egress;
    if (proxy?.hostPath && proxy.socketPath) {
      binds.push({ hostPath: proxy.hostPath, path: proxyDoorSocket, writable: false });
      doors.push({ port: Number(new URL(proxy.url).port), socketPath: proxy.socketPath });
    }
  }
  const plan = launchPlan({
    programs,
    identity,
    binds,
    stageFolder: join(running, "stage"),
    stageTable: join(running, "stage.fstab"),
    limits: spec.limits,
    doors,
    command: spec.command,
  });
  writeFileSync(join(running, "stage.fstab"), plan.stageTable, { mode: 0o600 });
  const sandbox = await LocalSandbox.start(
    {
      id,
      spec,
      programs,
      identity,
      environment: environmentOf(parts, id, doors),
      addresses: new Map(spec.ports.map((port) => [port, portAddress(running, port)])),
      infoPath: join(running, "bwrap.json"),
      argv: plan.argv,
      bwrapArguments: bwrapArguments({
        hostname: id,
        network,
        binds: plan.binds,
        secretFds: new Map(Object.keys(spec.secrets).map((name, index) => [name, launchFds.firstSecret + index])),
        infoFd: launchFds.info,
        workingDirectory: spec.workingDirectory,
        limits: spec.limits,
      }),
      cleanUp,
    },
    signal,
  );
  undo.move();
  return sandbox;
}

/** The sandbox's folders on the host; the record comes first, so that a sweep can find whatever is made after it. */
function makeFolders(
  { spec, id }: StartParts,
  { running, scratch }: { running: string; scratch: string },
  identity: Identity,
): void {
  mkdirSync(running, { recursive: true, mode: 0o755 });
  chmodSync(running, 0o755);
  mkdirSync(join(running, "stage"));
  const { name, role, tags, limits, workingDirectory, ports } = spec;
  const now = Date.now();
  const times = {
    startedAt: new Date(now).toISOString(),
    endsAt: new Date(now + limits.lifetimeMs).toISOString(),
  };
  const entry = { network: networkOf(spec), limits, workingDirectory, ports };
  writeRecord(running, { id, name, role, tags: { ...tags }, ...times }, entry, scratch);
  for (const folder of [join(running, "ports"), join(scratch, "tmp")]) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (identity.fromRoot) chownSync(folder, identity.uid, identity.gid);
  }
  // agents of another uid connect to these sockets
  chmodSync(join(running, "ports"), 0o755);
}

function portAddress(running: string, port: number): PortAddress {
  return {
    url: `http://${proxyHostname}:${port}`,
    socketPath: `${proxyDoorSocket}/${port}.sock`,
    hostPath: join(running, "ports"),
  };
}

function environmentOf(parts: StartParts, id: string, doors: readonly Door[]): Record<string, string> {
  const { python, spec } = parts;
  const filter = `http://127.0.0.1:${egressDoor.port}`;
  const noProxy = `localhost,127.0.0.1,::1,${proxyHostname}`;
  const path = [
    "/data/venv/bin",
    "/agent/bin",
    dirname(python.executable),
    "/opt/node/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
  ];
  return {
    PATH: [...new Set(path)].join(":"),
    HOME: spec.role === "agent" ? "/data/home" : "/tmp",
    USER: "agent",
    LANG: "C.UTF-8",
    TMPDIR: "/tmp",
    MODAL_SANDBOX_ID: id,
    ...parts.indexes.environment,
    ...(doors.includes(egressDoor) && {
      HTTP_PROXY: filter,
      HTTPS_PROXY: filter,
      http_proxy: filter,
      https_proxy: filter,
      NO_PROXY: noProxy,
      no_proxy: noProxy,
      // node's own clients and npm look at the variables only when told to
      NODE_USE_ENV_PROXY: "1",
    }),
    ...spec.env,
  };
}
