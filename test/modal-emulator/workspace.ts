/** What a Modal workspace holds beside sandboxes: apps, secrets, volumes. */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { shortId } from "./ids.ts";
import { type Handlers, RpcError } from "./rpc.ts";
import { EmulatedVolume } from "./volume.ts";

/** ObjectCreationType */
const creation = { createIfMissing: 1, createFailIfExists: 2, overwrite: 3, anonymous: 4, ephemeral: 5 } as const;

export interface SecretSource {
  secretId?: string;
  env?: { contents: Record<string, string> } | null;
}

interface SecretRequest {
  deploymentName: string;
  objectCreationType: number;
  envDict: Record<string, string>;
  requiredKeys: string[];
}

export class Workspace {
  /** app id → name */
  readonly apps = new Map<string, string>();
  readonly volumes = new Map<string, EmulatedVolume>();
  readonly #secrets = new Map<string, Record<string, string>>();
  readonly #named: Record<string, Record<string, string>>;
  readonly #secretIds = new Map<string, string>();
  readonly #scratch: string;

  constructor(scratch: string, secrets: Record<string, Record<string, string>>) {
    this.#scratch = scratch;
    this.#named = secrets;
  }

  /** Variables of secrets by id, later ones winning. */
  valuesOf(secretIds: readonly string[]): Record<string, string> {
    const values: Record<string, string> = {};
    for (const id of secretIds) {
      const secret = this.#secrets.get(id);
      if (!secret) throw new RpcError(status.NOT_FOUND, `Secret ${id} not found`);
      Object.assign(values, secret);
    }
    return values;
  }

  valuesOfSources(sources: readonly SecretSource[]): Record<string, string> {
    const values: Record<string, string> = {};
    for (const source of sources)
      Object.assign(values, source.env ? source.env.contents : this.valuesOf(source.secretId ? [source.secretId] : []));
    return values;
  }

  volume(id: string): EmulatedVolume {
    const volume = this.volumes.get(id);
    if (!volume) throw new RpcError(status.NOT_FOUND, `Volume ${id} not found`);
    return volume;
  }

  appNamed(name: string): string | undefined {
    return [...this.apps].find(([, known]) => known === name)?.[0];
  }

  handlers(): Handlers {
    return {
      AppGetOrCreate: ({ appName, objectCreationType }: { appName: string; objectCreationType: number }) => {
        let appId = this.appNamed(appName);
        if (!appId && !objectCreationType) throw new RpcError(status.NOT_FOUND, `App '${appName}' not found`);
        appId ??= shortId("ap");
        this.apps.set(appId, appName);
        return { appId, handleMetadata: { appId, description: appName, environmentName: "main" } };
      },
      SecretGetOrCreate: (request: SecretRequest) => this.#secret(request),
      SecretDelete: ({ secretId }: { secretId: string }) => {
        this.#secrets.delete(secretId);
        return {};
      },
      VolumeGetOrCreate: (request: { deploymentName: string; objectCreationType: number; version: number }) =>
        this.#volume(request),
      VolumeHeartbeat: () => ({}),
      VolumeDelete: ({ volumeId }: { volumeId: string }) => {
        this.volumes.delete(volumeId);
        return {};
      },
    };
  }

  #secret({ deploymentName, objectCreationType, envDict, requiredKeys }: SecretRequest): object {
    if (objectCreationType === creation.ephemeral || objectCreationType === creation.anonymous) {
      const secretId = shortId("st");
      this.#secrets.set(secretId, envDict);
      return { secretId, metadata: {} };
    }
    if (objectCreationType === creation.createIfMissing) this.#named[deploymentName] ??= envDict;
    if (objectCreationType === creation.createFailIfExists && this.#named[deploymentName])
      throw new RpcError(status.ALREADY_EXISTS, `Secret '${deploymentName}' already exists`);
    if (objectCreationType === creation.createFailIfExists || objectCreationType === creation.overwrite)
      this.#named[deploymentName] = envDict;
    const values = this.#named[deploymentName];
    if (!values) throw new RpcError(status.NOT_FOUND, `Secret '${deploymentName}' not found in environment 'main'`);
    const missing = requiredKeys.filter((key) => values[key] === undefined);
    if (missing.length > 0)
      throw new RpcError(status.FAILED_PRECONDITION, `Secret is missing key(s): ${missing.join(", ")}`);
    const secretId = this.#secretIds.get(deploymentName) ?? shortId("st");
    this.#secretIds.set(deploymentName, secretId);
    this.#secrets.set(secretId, values);
    return { secretId, metadata: { name: deploymentName } };
  }

  async #volume(request: { deploymentName: string; objectCreationType: number; version: number }): Promise<object> {
    const { deploymentName: name, objectCreationType } = request;
    const ephemeral = objectCreationType === creation.ephemeral;
    let volume = ephemeral ? undefined : [...this.volumes.values()].find((known) => known.name === name);
    if (!volume) {
      if (!objectCreationType) throw new RpcError(status.NOT_FOUND, `Volume '${name}' not found in environment 'main'`);
      const id = shortId("vo");
      volume = new EmulatedVolume(id, name, request.version || 1, join(this.#scratch, "volumes", id));
      this.volumes.set(id, volume);
      await mkdir(volume.committedPath, { recursive: true });
    }
    return { volumeId: volume.id, version: volume.version, metadata: { name, version: volume.version } };
  }
}
