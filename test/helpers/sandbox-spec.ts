import type { Limits, SandboxSpec } from "../../src/sandbox/provider.ts";

export const testLimits: Limits = { memoryMiB: 1024, processes: 128, fileSizeMiB: 64, lifetimeMs: 6 * 3_600_000 };

let count = 0;

/** A small agent sandbox that does nothing until it is ended, changed by `changes`. */
export function sandboxSpec(changes: Partial<SandboxSpec> = {}): SandboxSpec {
  return {
    role: "agent",
    name: `test-${process.pid}-${count++}`,
    command: ["sleep", "600"],
    env: {},
    secrets: {},
    workingDirectory: "/tmp",
    files: [],
    volumes: [],
    limits: testLimits,
    egress: { kind: "allow", hostnames: [] },
    ports: [],
    tags: {},
    ...changes,
  };
}
