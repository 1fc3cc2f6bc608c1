/** What a sandbox reserves on Modal, and for how long. */
import type { SandboxSpec } from "../provider.ts";

/** Modal's longest lifetime */
export const maxLifetimeMs = 24 * 3_600_000;
/** the trusted roles outlive the agent that needs them */
const trustedExtraMs = 600_000;

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
      lifetimeMs: wholeSeconds(Math.min(limits.lifetimeMs + trustedExtraMs, maxLifetimeMs)),
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
