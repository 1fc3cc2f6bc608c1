/** The control plane's calls about sandboxes, of both backends. */
import { setTimeout as delay } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { take } from "./faults.ts";
import { shortId, token, ulid } from "./ids.ts";
import type { ImageStore } from "./image-store.ts";
import type { NetworkPolicy } from "./network/network.ts";
import { type Context, type Handlers, RpcError } from "./rpc.ts";
import {
  EmulatedSandbox,
  type ReadinessProbe,
  resultStatus,
  type SandboxOptions,
  type Surroundings,
} from "./sandbox.ts";
import type { SecretSource, Workspace } from "./workspace.ts";

interface Definition {
  entrypointArgs: string[];
  imageId: string;
  secretIds: string[];
  resources: { memoryMb: number; memoryMbMax: number; gpuConfig: { gpuType: string; count: number } | null } | null;
  timeoutSecs: number;
  idleTimeoutSecs?: number;
  workdir?: string;
  volumeMounts: { volumeId: string; mountPath: string; readOnly: boolean; subPath?: string }[];
  openPorts?: { ports: { port: number }[] } | null;
  networkAccess: { networkAccessType: number; allowedCidrs: string[]; allowedDomains: string[] } | null;
  name?: string;
  readinessProbe?: ReadinessProbe | null;
}

interface CreateRequest {
  appId: string;
  definition: Definition;
  tags: { tagName: string; tagValue: string }[];
  secretSources?: SecretSource[];
}

interface ListRequest {
  appId: string;
  beforeTimestamp: number;
  includeFinished: boolean;
  tags: { tagName: string; tagValue: string }[];
}

type ById = { sandboxId: string };

/** Modal's own page size is not known. */
const pageSize = 25;
const longestArguments = 65_536;

export class SandboxRegistry {
  readonly all: EmulatedSandbox[] = [];
  /** where the command router listens, "127.0.0.1:PORT" */
  routerAddress = "";
  readonly #workspace: Workspace;
  readonly #images: ImageStore;
  readonly #around: Surroundings;
  readonly #created = new Map<string, Promise<EmulatedSandbox>>();

  constructor(workspace: Workspace, images: ImageStore, around: Surroundings) {
    this.#workspace = workspace;
    this.#images = images;
    this.#around = around;
  }

  get(id: string): EmulatedSandbox {
    const sandbox = this.all.find((known) => known.id === id);
    if (!sandbox) throw new RpcError(status.NOT_FOUND, `Sandbox ${id} not found`);
    return sandbox;
  }

  byTask(taskId: string): EmulatedSandbox {
    const sandbox = this.all.find((known) => known.taskId === taskId);
    if (!sandbox) throw new RpcError(status.NOT_FOUND, `Task ${taskId} not found`);
    return sandbox;
  }

  handlers(): Handlers {
    const wait = (request: ById & { timeout: number }, context: Context) => this.#wait(request, context);
    const terminate = ({ sandboxId }: ById) => this.#terminate(sandboxId);
    const tunnels = (request: ById & { timeout: number }, context: Context) => this.#tunnels(request, context);
    const list = (request: ListRequest) => ({ sandboxes: this.#list(request).map(describe) });
    const setTags = ({ sandboxId, tags }: ById & { tags: CreateRequest["tags"] }) => {
      this.get(sandboxId).tags = tagsOf(tags);
      return {};
    };
    const getTags = ({ sandboxId }: ById) => ({ tags: pairsOf(this.get(sandboxId).tags) });
    const taskId = (request: ById, context: Context) => this.#taskId(request, context);
    return {
      SandboxCreate: async (request: CreateRequest, context: Context) => ({
        sandboxId: (await this.#createOnce("v1", request, context)).id,
      }),
      SandboxCreateV2: async (request: CreateRequest, context: Context) =>
        this.#createdV2(await this.#createOnce("v2", request, context), context),
      SandboxGetTaskId: taskId,
      SandboxGetTaskIdV2: taskId,
      TaskGetCommandRouterAccess: ({ taskId }: { taskId: string }, context: Context) =>
        this.#access(this.byTask(taskId), context),
      SandboxGetCommandRouterAccess: ({ sandboxId }: ById, context: Context) =>
        this.#access(this.get(sandboxId), context),
      SandboxWait: wait,
      SandboxWaitV2: wait,
      SandboxTerminate: terminate,
      SandboxTerminateV2: terminate,
      SandboxGetTunnels: tunnels,
      SandboxGetTunnelsV2: tunnels,
      SandboxList: (request: ListRequest) => ({
        sandboxes: this.#list(request, "v1").map(describe),
      }),
      SandboxListV2: list,
      SandboxTagsSet: setTags,
      SandboxTagsSetV2: setTags,
      SandboxTagsGet: getTags,
      SandboxTagsGetV2: getTags,
      SandboxGetFromName: (request: { sandboxName: string; appName: string }) => this.#fromName(request, "v1", false),
      SandboxGetFromNameV2: (request: { sandboxName: string; appName: string; includeTerminated: boolean }) =>
        this.#fromName(request, "v2", request.includeTerminated),
    };
  }

  /** A create that is sent again after a lost answer is the same create. */
  async #createOnce(backend: "v1" | "v2", request: CreateRequest, context: Context): Promise<EmulatedSandbox> {
    const { faults } = this.#around;
    const key = context.call.idempotencyKey;
    const create = (key && this.#created.get(key)) || this.#create(backend, request);
    if (key) this.#created.set(key, create);
    const sandbox = await create;
    context.call.sandboxId = sandbox.id;
    if (faults.createDelayMs > 0)
      await delay(faults.createDelayMs, undefined, { signal: context.signal }).catch(() => {});
    if (take(faults, "loseCreateResponse")) throw new RpcError(status.UNAVAILABLE, "the answer was lost");
    return sandbox;
  }

  async #create(backend: "v1" | "v2", request: CreateRequest): Promise<EmulatedSandbox> {
    const options = this.#optionsOf(backend, request);
    const image = this.#images.images.get(options.imageId);
    if (!image) throw new RpcError(status.NOT_FOUND, `Image ${options.imageId} not found`);
    const built = await image.built.catch((error: Error) => {
      throw new RpcError(status.FAILED_PRECONDITION, `Image ${options.imageId} is not built: ${error.message}`);
    });
    this.#refuseTakenName(options);
    const sandbox = new EmulatedSandbox(options, this.#around);
    this.all.push(sandbox);
    this.#around.changed();
    if (options.gpu) void this.#schedule(sandbox, () => sandbox.start(built));
    else await sandbox.start(built);
    return sandbox;
  }

  #optionsOf(backend: "v1" | "v2", { appId, definition, tags, secretSources }: CreateRequest): SandboxOptions {
    if (!this.#workspace.apps.has(appId)) throw new RpcError(status.NOT_FOUND, `App ${appId} not found`);
    refuseBadDefinition(definition);
    const gpu = definition.resources?.gpuConfig;
    const gpuType = gpu?.gpuType && `${gpu.gpuType}${gpu.count > 1 ? `:${gpu.count}` : ""}`;
    if (backend === "v2" && gpuType)
      throw new RpcError(status.INVALID_ARGUMENT, "GPUs are not supported by V2 sandboxes");
    return {
      id: backend === "v1" ? shortId("sb") : ulid("sb"),
      backend,
      name: definition.name ?? "",
      appId,
      tags: tagsOf(tags),
      gpu: gpuType || undefined,
      imageId: definition.imageId,
      args: definition.entrypointArgs,
      // a V2 request names a secret among its sources too
      env: secretSources?.length
        ? this.#workspace.valuesOfSources(secretSources)
        : this.#workspace.valuesOf(definition.secretIds),
      workdir: definition.workdir ?? "",
      timeoutSecs: definition.timeoutSecs || 300,
      idleTimeoutSecs: definition.idleTimeoutSecs,
      memoryMiB: definition.resources?.memoryMbMax || undefined,
      ports: definition.openPorts?.ports.map(({ port }) => port) ?? [],
      policy: policyOf(definition.networkAccess),
      probe: definition.readinessProbe ?? undefined,
      volumes: definition.volumeMounts.map(({ volumeId, mountPath, readOnly, subPath }) => ({
        ...{ volume: this.#workspace.volume(volumeId), path: mountPath.replace(/\/+$/, ""), readOnly },
        subPath: subPath ?? "",
      })),
    };
  }

  #refuseTakenName({ name, appId }: SandboxOptions): void {
    if (name && this.all.some((other) => other.running && other.options.name === name && other.options.appId === appId))
      throw new RpcError(status.ALREADY_EXISTS, `Sandbox with name '${name}' already exists`);
  }

  async #schedule(sandbox: EmulatedSandbox, start: () => Promise<void>): Promise<void> {
    const { faults } = this.#around;
    const type = sandbox.options.gpu?.replace(/:\d+$/, "") ?? "";
    const exception = "Insufficient capacity to start the Sandbox";
    if (faults.noCapacity) return sandbox.end({ status: resultStatus.initFailure, exitcode: 1, exception });
    const sinceMs = Date.now();
    while (Date.now() - sinceMs < faults.gpuQueueMs || faults.gpuNeverFree.includes(type)) {
      await delay(50);
      if (!sandbox.running) return;
    }
    await start();
  }

  #createdV2(sandbox: EmulatedSandbox, context: Context): object {
    return {
      sandboxId: sandbox.id,
      taskId: sandbox.taskId,
      tunnels: sandbox.tunnels,
      commandRouterAccess: this.#access(sandbox, context),
      metadata: { appId: sandbox.options.appId },
    };
  }

  /**
   * With a server on this machine the JS client wants an https address and then talks plain HTTP/2 to it, the Python one
   * takes the scheme at its word.
   */
  #access(sandbox: EmulatedSandbox, { metadata }: Context): object {
    const scheme = metadata.get("x-modal-libmodal-version").length > 0 ? "https" : "http";
    return { jwt: token(3600, { task: sandbox.taskId }), url: `${scheme}://${this.routerAddress}` };
  }

  async #taskId({ sandboxId }: ById, { signal }: Context): Promise<object> {
    const sandbox = this.get(sandboxId);
    for (let tries = 0; tries < 10 && sandbox.state !== "running" && sandbox.running && !signal.aborted; tries++)
      await delay(25);
    if (sandbox.state === "running") return { taskId: sandbox.taskId };
    return sandbox.result ? { taskResult: sandbox.result, ...(sandbox.taskId && { taskId: sandbox.taskId }) } : {};
  }

  async #wait({ sandboxId, timeout }: ById & { timeout: number }, { signal }: Context): Promise<object> {
    const sandbox = this.get(sandboxId);
    if (timeout > 0) await before(sandbox.ended, timeout * 1000, signal);
    const metadata = { appId: sandbox.options.appId, ...(sandbox.result && { result: sandbox.result }) };
    return { metadata, ...(sandbox.result && { result: sandbox.result }) };
  }

  #terminate(sandboxId: string): object {
    const sandbox = this.get(sandboxId);
    sandbox.end({ status: resultStatus.terminated, exitcode: 137, exception: "Sandbox was terminated" });
    return sandbox.result ? { existingResult: sandbox.result } : {};
  }

  async #tunnels({ sandboxId, timeout }: ById & { timeout: number }, { signal }: Context): Promise<object> {
    const sandbox = this.get(sandboxId);
    const untilMs = Date.now() + timeout * 1000;
    while (sandbox.running && sandbox.state !== "running" && Date.now() < untilMs && !signal.aborted) await delay(25);
    if (sandbox.running && sandbox.state !== "running") return { result: { status: resultStatus.timeout } };
    return { tunnels: sandbox.tunnels };
  }

  #list({ appId, beforeTimestamp, includeFinished, tags }: ListRequest, backend?: "v1"): EmulatedSandbox[] {
    const wanted = Object.entries(tagsOf(tags));
    return this.all
      .filter((sandbox) => !backend || sandbox.options.backend === backend)
      .filter((sandbox) => (includeFinished || sandbox.running) && (!appId || sandbox.options.appId === appId))
      .filter((sandbox) => wanted.every(([name, value]) => sandbox.tags[name] === value))
      .filter((sandbox) => !beforeTimestamp || sandbox.createdAt / 1000 < beforeTimestamp)
      .sort((a, b) => b.createdAt - a.createdAt)
      .slice(0, pageSize);
  }

  #fromName(request: { sandboxName: string; appName: string }, backend: "v1" | "v2", ended: boolean): object {
    const appId = this.#workspace.appNamed(request.appName);
    const named = this.all
      .filter(
        ({ options }) => options.appId === appId && options.name === request.sandboxName && options.backend === backend,
      )
      .reverse();
    const found = named.find((sandbox) => sandbox.running) ?? (ended ? named[0] : undefined);
    if (!found) throw new RpcError(status.NOT_FOUND, `Sandbox with name '${request.sandboxName}' not found`);
    return { sandboxId: found.id, metadata: { appId } };
  }
}

function refuseBadDefinition(definition: Definition): void {
  const length = definition.entrypointArgs.reduce((sum, argument) => sum + argument.length, 0);
  if (length > longestArguments)
    throw new RpcError(
      status.INVALID_ARGUMENT,
      `Total length of CMD arguments must be less than ${longestArguments} bytes`,
    );
  if (definition.timeoutSecs > 24 * 3600)
    throw new RpcError(status.INVALID_ARGUMENT, "Sandbox timeout must be at most 24 hours");
  if (definition.name && !/^[A-Za-z0-9\-_.]{1,63}$/.test(definition.name))
    throw new RpcError(status.INVALID_ARGUMENT, `Invalid Sandbox name: '${definition.name}'`);
  if ((definition.networkAccess?.allowedDomains.length ?? 0) > 100)
    throw new RpcError(status.INVALID_ARGUMENT, "At most 100 domains may be allowed");
  for (const { mountPath } of definition.volumeMounts)
    if (!/^\/./.test(mountPath)) throw new RpcError(status.INVALID_ARGUMENT, `Invalid mount path: '${mountPath}'`);
}

/** NetworkAccess.NetworkAccessType: 1 open, 2 blocked, 3 allowlist */
function policyOf(access: Definition["networkAccess"]): NetworkPolicy {
  if (access?.networkAccessType === 2) return { kind: "blocked" };
  if (access?.networkAccessType === 3)
    return { kind: "allowlist", domains: access.allowedDomains, cidrs: access.allowedCidrs };
  return { kind: "open" };
}

function tagsOf(tags: CreateRequest["tags"]): Record<string, string> {
  return Object.fromEntries(tags.map(({ tagName, tagValue }) => [tagName, tagValue]));
}

function pairsOf(tags: Record<string, string>): CreateRequest["tags"] {
  return Object.entries(tags).map(([tagName, tagValue]) => ({ tagName, tagValue }));
}

function describe(sandbox: EmulatedSandbox): object {
  const { options } = sandbox;
  return {
    id: sandbox.id,
    createdAt: sandbox.createdAt / 1000,
    appId: options.appId,
    name: options.name,
    imageId: options.imageId,
    tags: pairsOf(sandbox.tags),
    timeoutSecs: options.timeoutSecs,
    taskInfo: { id: sandbox.taskId, sandboxId: sandbox.id, ...(sandbox.result && { result: sandbox.result }) },
    metadata: { appId: options.appId },
  };
}

async function before(event: Promise<unknown>, ms: number, signal: AbortSignal): Promise<void> {
  const timer = new AbortController();
  const timeout = delay(ms, undefined, { signal: AbortSignal.any([timer.signal, signal]) }).catch(() => {});
  await Promise.race([event, timeout]);
  timer.abort();
}
