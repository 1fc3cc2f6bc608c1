/** Volumes to read on this machine: their own folders where the provider keeps them here, else copies. */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { SandboxError } from "../errors.ts";
import type { Limits, Provider, Volume } from "../sandbox/provider.ts";
import { pull } from "../transfer/pull.ts";
import { runtimeFiles } from "./runtime-files.ts";

/** of one volume: an agent may write to it without end */
const maxBytes = 2 * 2 ** 30;
const maxEntries = 20_000;

export interface VolumeCopyOptions {
  provider: Provider;
  stateFolder: string;
  limits: Limits;
}

/**
 * A folder for each of these volumes that there is. Copies are brought by one sandbox that sees the volumes, read-only,
 * and nothing else. Throws a SandboxError when they cannot be brought whole, a UsageError when one is too large.
 */
export async function volumeFolders(
  names: readonly string[],
  options: VolumeCopyOptions,
): Promise<Map<string, string>> {
  const { provider } = options;
  const found = await Promise.all(names.map(async (name) => [name, await provider.peek(name)] as const));
  const there = found.filter((entry): entry is readonly [string, Volume] => entry[1] !== undefined);
  const distant = there.filter(([, { hostPath }]) => hostPath === undefined);
  const copies = distant.length === 0 ? new Map<string, string>() : await copyAll(distant, options);
  return new Map(
    there.flatMap(([name, { hostPath }]) => {
      const folder = hostPath ?? copies.get(name);
      return folder === undefined ? [] : [[name, folder] as const];
    }),
  );
}

async function copyAll(
  volumes: readonly (readonly [name: string, volume: Volume])[],
  { provider, stateFolder, limits }: VolumeCopyOptions,
): Promise<Map<string, string>> {
  const inside = (index: number) => `/volumes/${index}`;
  await using sandbox = await provider.create({
    role: "syncer",
    name: `reader-${randomBytes(4).toString("hex")}`,
    command: ["/bin/sleep", "infinity"],
    env: {},
    secrets: {},
    workingDirectory: "/tmp",
    files: runtimeFiles(["transfer/inside"], [], stateFolder),
    volumes: volumes.map(([, volume], index) => ({ volume, path: inside(index), readOnly: true })),
    limits: { ...limits, memoryMiB: 1024, processes: 64 },
    egress: { kind: "allow", hostnames: [] },
    ports: [],
    tags: {},
  });
  const folders = new Map<string, string>();
  for (const [index, [name]] of volumes.entries()) {
    const to = join(stateFolder, "copies", name);
    mkdirSync(join(stateFolder, "copies"), { recursive: true, mode: 0o700 });
    // an earlier copy may hold what is gone now, or a folder where there is a file
    rmSync(to, { recursive: true, force: true });
    mkdirSync(to);
    const { failed } = await pull({ sandbox, from: `${inside(index)}/`, to, maxBytes, maxEntries });
    if (failed.count > 0) throw new SandboxError(`The volume "${name}" could not be read: ${failed.first[0]}`);
    openToReaders(to);
    folders.set(name, to);
  }
  return folders;
}

/** A sandbox that reads them has another user; the folders above are closed to everybody else. */
function openToReaders(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isSymbolicLink()) continue;
    chmodSync(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  }
}
