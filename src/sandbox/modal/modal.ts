/** The provider `modal`: sandboxes in the user's account of Modal, by its official SDK. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { resolve } from "node:path";
import type { Sandbox as SdkSandbox } from "modal";
import { BusyError, SandboxError } from "../../errors.ts";
import type {
  CreateOptions,
  EgressPolicy,
  PortAddress,
  Provider,
  Requirement,
  Sandbox,
  SandboxRecord,
  SandboxSpec,
  StoredSecret,
  Volume,
} from "../provider.ts";
import type { ProviderOptions } from "../sandbox.ts";
import { within } from "./calls.ts";
import { createAtModal } from "./creation.ts";
import { type Creations, openCreations } from "./creations.ts";
import { allowedDomains } from "./egress.ts";
import { resultNow } from "./end.ts";
import { environmentOf } from "./environment.ts";
import { checkedGpus } from "./gpus.ts";
import { ImageBuilder } from "./image-build.ts";
import { imagePlan } from "./image-plan.ts";
import { type Installation, openInstallation } from "./installation.ts";
import { launchPath } from "./launcher.ts";
import { labelAtServer, listSandboxes } from "./listing.ts";
import { logTail } from "./logs.ts";
import { isNotFound, modalError, unusableCredentials } from "./modal-error.ts";
import { ModalSandbox } from "./modal-sandbox.ts";
import { readyAddresses, tunnelAddresses } from "./ports.ts";
import { checkRequirements } from "./requirements.ts";
import { idleTimeoutMs, maxLifetimeMs, resourcesOf } from "./resources.ts";
import { type Account, hasCredentials, type ModalOptions, openAccount } from "./sdk.ts";
import { type HandedSecrets, handedSecrets } from "./secrets.ts";
import { type Label, tagsOf } from "./tags.ts";
import { openModalVolume, peekModalVolume, sdkMounts } from "./volumes.ts";

const answerMs = 60_000;
/** for a machine without a GPU */
const defaultMaxWaitMs = 300_000;

/** Nothing is asked of Modal yet: what is missing there is an error of the first call, and a word of `requirements`. */
export async function createModalProvider(options: ProviderOptions & { modal: ModalOptions }): Promise<Provider> {
  return new ModalProvider(options);
}

class ModalProvider implements Provider {
  readonly name = "modal";
  readonly place: string;
  readonly capabilities = {
    detach: true,
    sharedVolumes: false,
    storedSecrets: true,
    databasesOnVolumes: false,
    maxLifetimeMs,
  };
  readonly #options: ProviderOptions & { modal: ModalOptions };
  readonly #stateFolder: string;
  readonly #installation: Installation;
  readonly #creations: Creations;
  readonly #sandboxes = new Map<string, ModalSandbox>();
  readonly #starting = new Set<string>();
  /** which sandbox of this process serves at a hostname */
  readonly #servers = new Map<string, ModalSandbox>();
  #opened: Promise<{ account: Account; images: ImageBuilder }> | undefined;

  constructor(options: ProviderOptions & { modal: ModalOptions }) {
    this.#options = options;
    const { app, environment } = options.modal;
    this.place = environment === undefined ? app : `${app} in ${environment}`;
    this.#stateFolder = resolve(options.stateFolder);
    this.#installation = openInstallation(this.#stateFolder);
    this.#creations = openCreations(this.#stateFolder, options.modal.creationsPerHour);
  }

  requirements(secrets: readonly StoredSecret[] = []): Promise<Requirement[]> {
    return checkRequirements(async () => (await this.#open()).account, secrets);
  }

  check({ egress, machine }: Pick<SandboxSpec, "egress" | "machine">): void {
    checkedGpus(machine?.gpus ?? []);
    allowedDomains(egress);
  }

  async create(spec: SandboxSpec, options: CreateOptions = {}): Promise<Sandbox> {
    options.signal?.throwIfAborted();
    const gpus = checkedGpus(spec.machine?.gpus ?? []);
    const domains = allowedDomains(spec.egress);
    const isTaken = [...this.#sandboxes.values()].some((sandbox) => sandbox.name === spec.name);
    if (isTaken || this.#starting.has(spec.name)) throw nameTaken(spec.name);
    this.#starting.add(spec.name);
    try {
      const { account, images } = await this.#open();
      await this.#refuseWithoutProxy(account, spec.egress);
      const [image, secrets] = await Promise.all([
        images.build(imagePlan(spec), options),
        handedSecrets(account, spec),
      ]);
      options.signal?.throwIfAborted();
      const attempts = await this.#attempts(account, spec, { image, secrets, domains });
      let label: Label | undefined;
      const sdkSandbox = await createAtModal(
        account,
        {
          name: spec.name,
          modalName: this.#installation.sandboxName(spec.name),
          gpus,
          maxWaitMs: spec.machine?.maxWaitMs ?? defaultMaxWaitMs,
          onNoMachine: () => this.#creations.refused(spec.name),
          attempt: (gpu) => {
            label = this.#labelOf(spec, gpu);
            return { creation: label.creation, made: attempts(label) };
          },
        },
        options,
      );
      this.#creations.made(spec.name, sdkSandbox.sandboxId);
      return await this.#serving(account, sdkSandbox, label as unknown as Label, options.signal);
    } finally {
      this.#starting.delete(spec.name);
    }
  }

  listenAt(port: number): string {
    return `0.0.0.0:${port}`;
  }

  addressAhead(): undefined {
    return undefined;
  }

  async find(name: string): Promise<Sandbox | undefined> {
    const own = [...this.#sandboxes.values()].find((sandbox) => sandbox.name === name);
    if (own) return own;
    const { account } = await this.#open();
    const modalName = this.#installation.sandboxName(name);
    let sdkSandbox: SdkSandbox;
    try {
      sdkSandbox = await within(answerMs, "for a sandbox", () =>
        account.client.sandboxes.fromName(account.appName, modalName),
      );
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw modalError(error, `look for the sandbox "${name}"`);
    }
    const found = await this.#adopt(account, sdkSandbox);
    if (found === "foreign") {
      throw new BusyError(`A sandbox named "${modalName}" runs at Modal that this installation did not make`, {
        hint: "end it at modal.com/apps, or choose another session name",
      });
    }
    return found;
  }

  async list(tags: Readonly<Record<string, string>> = {}): Promise<SandboxRecord[]> {
    const { account } = await this.#open();
    return await listSandboxes(account, this.#installation.id, tags);
  }

  async open({ id }: SandboxRecord): Promise<Sandbox | undefined> {
    const own = this.#sandboxes.get(id);
    if (own) return own;
    const { account } = await this.#open();
    const found = await this.#adopt(account, await account.client.sandboxes.fromId(id));
    if (found === "foreign") throw new BusyError(`The sandbox ${id} is not this installation's`);
    return found;
  }

  async logs({ id }: Pick<SandboxRecord, "id">): Promise<string | undefined> {
    const { account } = await this.#open();
    const label = await labelAtServer(await account.client.sandboxes.fromId(id), this.#installation.id);
    if (!label) throw new BusyError(`The sandbox ${id} is not this installation's`);
    try {
      return await logTail(account, id);
    } catch (error) {
      throw modalError(error, "give the sandbox's logs");
    }
  }

  async volume(name: string): Promise<Volume> {
    const { account } = await this.#open();
    return await openModalVolume(account, this.#installation, this.#stateFolder, name);
  }

  async peek(name: string): Promise<Volume | undefined> {
    const { account } = await this.#open();
    return await peekModalVolume(account, this.#installation, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ends = await Promise.allSettled([...this.#sandboxes.values()].map((sandbox) => sandbox.terminate()));
    (await this.#opened?.catch(() => undefined))?.account.client.close();
    const failed = ends.find((end) => end.status === "rejected");
    if (failed) throw failed.reason;
  }

  #open(): Promise<{ account: Account; images: ImageBuilder }> {
    this.#opened ??= this.#openAccount().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    });
    return this.#opened;
  }

  async #openAccount(): Promise<{ account: Account; images: ImageBuilder }> {
    const account = await openAccount(this.#options.modal, this.#options.hostEnvironment);
    if (!hasCredentials(account)) throw unusableCredentials("neither a token nor a login was found");
    return { account, images: new ImageBuilder(account, this.#stateFolder) };
  }

  /** An agent without its proxy could do nothing. One that this process does not know is not asked after. */
  async #refuseWithoutProxy({ client }: Account, egress: EgressPolicy): Promise<void> {
    if (egress.kind === "host" || !egress.proxy) return;
    const proxy = this.#servers.get(new URL(egress.proxy.url).host);
    if (!proxy) return;
    const isGone =
      proxy.status() === "ended" || (await resultNow(client, proxy.id).catch(() => undefined)) !== undefined;
    if (isGone) throw new SandboxError(`The proxy that the sandbox would talk to has ended ("${proxy.name}")`);
  }

  /** What is asked of Modal, once for each GPU that is tried. */
  async #attempts(
    account: Account,
    spec: SandboxSpec,
    parts: { image: Awaited<ReturnType<ImageBuilder["build"]>>; secrets: HandedSecrets; domains: string[] | undefined },
  ) {
    const app = await account.app();
    const resources = resourcesOf(spec);
    const { secrets, domains } = parts;
    const common = {
      name: this.#installation.sandboxName(spec.name),
      command: [launchPath, ...spec.command],
      env: environmentOf(spec, secrets.words),
      secrets: secrets.sdkSecrets,
      workdir: spec.workingDirectory,
      volumes: sdkMounts(spec),
      cpu: resources.cpuCores,
      memoryMiB: resources.memoryMiB,
      memoryLimitMiB: resources.memoryLimitMiB,
      timeoutMs: resources.lifetimeMs,
      idleTimeoutMs,
      encryptedPorts: [...spec.ports],
      ...(domains && { outboundDomainAllowlist: domains }),
      ...(spec.machine?.regions && { regions: [...spec.machine.regions] }),
      ...(spec.ports[0] !== undefined && { readinessProbe: account.sdk.Probe.withTcp(spec.ports[0]) }),
    };
    return async (label: Label) => {
      const { gpu } = label.reserved;
      this.#creations.intend({ name: spec.name, role: spec.role, gpu });
      return await account.client.sandboxes.create(app, parts.image, {
        ...common,
        tags: tagsOf(label),
        ...(gpu !== undefined && { gpu }),
      });
    };
  }

  #labelOf(spec: SandboxSpec, gpu: string | undefined): Label {
    const { cpuCores, memoryMiB, lifetimeMs } = resourcesOf(spec);
    return {
      owner: this.#installation.id,
      role: spec.role,
      name: spec.name,
      host: hostname(),
      creation: randomBytes(16).toString("hex"),
      reserved: { gpu, cpuCores, memoryMiB },
      lifetimeMs,
      startedAtMs: Date.now(),
      ports: spec.ports,
      tags: { ...spec.tags },
    };
  }

  /** A sandbox that was just made; one that does not come to serve its ports is ended again. */
  async #serving(
    account: Account,
    sdkSandbox: SdkSandbox,
    label: Label,
    signal: AbortSignal | undefined,
  ): Promise<Sandbox> {
    const addresses = new Map<number, PortAddress>();
    const sandbox = this.#hold(account, sdkSandbox, label, addresses, true);
    try {
      for (const [port, address] of await readyAddresses(sdkSandbox, sandbox, label.ports, signal)) {
        addresses.set(port, address);
        this.#servers.set(new URL(address.url).host, sandbox);
      }
      signal?.throwIfAborted();
      return sandbox;
    } catch (error) {
      await sandbox.terminate();
      throw error;
    }
  }

  async #adopt(account: Account, sdkSandbox: SdkSandbox): Promise<ModalSandbox | "foreign" | undefined> {
    let isRunning: boolean;
    try {
      isRunning = (await resultNow(account.client, sdkSandbox.sandboxId)) === undefined;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw modalError(error, `look at the sandbox ${sdkSandbox.sandboxId}`);
    }
    if (!isRunning) return undefined;
    const label = await labelAtServer(sdkSandbox, this.#installation.id);
    if (!label) return "foreign";
    const addresses = label.ports.length > 0 ? await tunnelAddresses(sdkSandbox) : new Map<number, PortAddress>();
    const sandbox =
      this.#sandboxes.get(sdkSandbox.sandboxId) ?? this.#hold(account, sdkSandbox, label, addresses, false);
    for (const address of addresses.values()) this.#servers.set(new URL(address.url).host, sandbox);
    return sandbox;
  }

  #hold(
    account: Account,
    sdkSandbox: SdkSandbox,
    label: Label,
    addresses: ReadonlyMap<number, PortAddress>,
    isNew: boolean,
  ): ModalSandbox {
    const onGone = (gone: ModalSandbox) => this.#sandboxes.delete(gone.id);
    const sandbox = new ModalSandbox({ account, sdkSandbox, label, addresses, isNew, onGone });
    this.#sandboxes.set(sandbox.id, sandbox);
    return sandbox;
  }
}

function nameTaken(name: string): BusyError {
  return new BusyError(`A sandbox named "${name}" is running`, { hint: "modal-sb ls shows it" });
}
