/** The provider `modal` in the suite's app: small sandboxes, booked and marked, volumes written down, all gone with it. */
import { openInstallation } from "../../src/sandbox/modal/installation.ts";
import { resourcesOf } from "../../src/sandbox/modal/resources.ts";
import type { CreateOptions, Provider, SandboxSpec } from "../../src/sandbox/provider.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { liveApp } from "./account.ts";
import { Cloud, maxLifetimeMs } from "./cloud.ts";
import { liveTag } from "./sweep.ts";

const maxMemoryMiB = 512;
const cpuCores = 0.125;

export async function openGuardedProvider(): Promise<Provider> {
  await using undo = new AsyncDisposableStack();
  const cloud = undo.use(await Cloud.open());
  const { path: stateFolder } = undo.use(await temporaryFolder());
  const provider = undo.use(
    await createProvider("modal", {
      stateFolder,
      hostEnvironment: process.env,
      modal: { app: liveApp, creationsPerHour: 1000 },
    }),
  );
  const owned = undo.move();
  const changes: Partial<Provider> & AsyncDisposable = {
    create(spec: SandboxSpec, options?: CreateOptions) {
      const small = smallSpec(spec);
      const { lifetimeMs, ...reserved } = resourcesOf(small);
      cloud.charge(`a ${spec.role === "agent" ? "sandbox" : "trusted sandbox"} of the contract`, lifetimeMs, reserved);
      return provider.create(small, options);
    },
    async volume(name: string) {
      cloud.adoptVolume(openInstallation(stateFolder).volumeName(name));
      return await provider.volume(name);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  return new Proxy(provider, {
    get(target, key) {
      // as it is: V8 takes no bound function for a disposer
      if (key in changes) return Reflect.get(changes, key);
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** The provider itself gives trusted roles 10 minutes more. */
function smallSpec(spec: SandboxSpec): SandboxSpec {
  const { memoryMiB, lifetimeMs } = spec.limits;
  return {
    ...spec,
    tags: { ...spec.tags, [liveTag]: "1" },
    limits: {
      ...spec.limits,
      memoryMiB: Math.min(memoryMiB, maxMemoryMiB),
      lifetimeMs: Math.min(lifetimeMs, maxLifetimeMs),
    },
    machine: { gpus: [], maxWaitMs: maxLifetimeMs, ...spec.machine, cpuCores },
  };
}
