/** What a sandbox reserves on Modal, and for how long. */
import type { SandboxSpec } from "../provider.ts";

/** Modal's longest lifetime */
const modalsMaxMs = 24 * 3_600_000;
/** The trusted roles outlive the agent that needs them, and are there before it: while its image is built, and its GPU waited for. */
const trustedExtraMs = 3_600_000;
/** of an agent */
export const maxLifetimeMs = modalsMaxMs - trustedExtraMs;

/** After so long without a process beside the main one, and without a connection, Modal ends a sandbox. */
export const idleTimeoutMs = 600_000;

export interface Resources {
  cpuCores: number;
  memoryMiB: number;
  memoryLimitMiB: number;
  /** a whole number of seconds */
  lifetimeMs: number;
}

export function resourcesOf({ role, limits, machine }: SandboxSpec): Resources {
  if (role !== "agent") {
    return {
      cpuCores: 0.25,
      memoryMiB: Math.min(512, limits.memoryMiB),
      memoryLimitMiB: limits.memoryMiB,
      lifetimeMs: wholeSeconds(Math.min(limits.lifetimeMs + trustedExtraMs, modalsMaxMs)),
    };
  }
  return {
    cpuCores: machine?.cpuCores ?? ((machine?.gpus.length ?? 0) > 0 ? 4 : 2),
    memoryMiB: limits.memoryMiB,
    memoryLimitMiB: limits.memoryMiB,
    lifetimeMs: wholeSeconds(Math.min(limits.lifetimeMs, maxLifetimeMs)),
  };
}

function wholeSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000)) * 1000;
}
