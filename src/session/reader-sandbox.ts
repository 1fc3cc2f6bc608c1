/** A sandbox for nothing but reading databases that an agent wrote: no network, no secret, the volume read-only. */
import { randomBytes } from "node:crypto";
import type { Limits, Provider } from "../sandbox/provider.ts";
import type { OpenReader } from "../syncer/reader.ts";
import { nodePath, runtimeFiles, runtimeModule } from "./runtime-files.ts";

export interface ReaderSandbox extends AsyncDisposable {
  open: OpenReader;
}

export interface ReaderSandboxOptions {
  provider: Provider;
  session: string;
  /** of a volume, as `Provider.peek` gave it: its writer may be at work. It has the same path inside */
  folder: string;
  limits: Limits;
  stateFolder: string;
}

/** Throws a SandboxError when it cannot be made. */
export async function openReaderSandbox(options: ReaderSandboxOptions): Promise<ReaderSandbox> {
  const { provider, session, folder, limits, stateFolder } = options;
  const name = `${session}-reader-${randomBytes(3).toString("hex")}`;
  const volume = { name, hostPath: folder, [Symbol.asyncDispose]: async () => {} };
  const sandbox = await provider.create({
    role: "syncer",
    name,
    command: ["/bin/sleep", "infinity"],
    env: {},
    secrets: {},
    workingDirectory: "/tmp",
    files: runtimeFiles(["syncer", "errors"], [], stateFolder),
    volumes: [{ volume, path: folder, readOnly: true }],
    limits: { ...limits, memoryMiB: 1024, processes: 64 },
    egress: { kind: "allow", hostnames: [] },
    ports: [],
    tags: { session },
  });
  return {
    async open(nodeOptions) {
      const process = await sandbox.exec([nodePath, ...nodeOptions, runtimeModule("syncer/reader-main")]);
      process.stderr.resume();
      return { ...process, kill: () => process.kill("SIGKILL") };
    },
    [Symbol.asyncDispose]: () => sandbox.terminate(),
  };
}
