/** Host paths of a sandbox, by where they come from: its toolchain, its files, its volumes. */
import { chmodSync, existsSync, mkdirSync, statSync } from "node:fs";
import { cp, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { SandboxError } from "../../errors.ts";
import type { SandboxSpec } from "../provider.ts";
import type { Bind } from "./bwrap-arguments.ts";
import type { Identity } from "./identity.ts";
import type { PackageIndexes } from "./package-indexes.ts";
import type { Python } from "./python.ts";
import { giveFolder } from "./volume.ts";

/** The node that runs modal-sb, Python, and what the host's package settings point to, at their own paths. */
export function toolchainBinds(python: Python, indexes: PackageIndexes): Bind[] {
  const nodePrefix = dirname(dirname(process.execPath));
  const paths = [...indexes.paths, ...(python.prefix === "/usr" ? [] : [python.prefix])];
  const hasNpm = !nodePrefix.startsWith("/usr") && existsSync(join(nodePrefix, "lib/node_modules/npm"));
  return [
    { hostPath: process.execPath, path: "/agent/bin/node", writable: false },
    ...(hasNpm ? [{ hostPath: nodePrefix, path: "/opt/node", writable: false }] : []),
    ...paths
      .filter((path) => !path.startsWith("/usr/") && !path.startsWith("/etc/ssl/"))
      .map((path) => ({ hostPath: path, path, writable: false })),
  ];
}

/** Files at their places; the sandbox's user must be able to read them, and for root that is another one. */
export async function fileBinds(spec: SandboxSpec, copies: string, identity: Identity): Promise<Bind[]> {
  mkdirSync(copies, { mode: 0o755 });
  return await Promise.all(
    spec.files.map(async ({ hostPath, path, copy }, index): Promise<Bind> => {
      if (copy) return { hostPath: await copyReadable(hostPath, join(copies, String(index))), path, writable: false };
      if (identity.fromRoot && (statSync(hostPath).mode & 0o004) === 0) {
        throw new SandboxError(`The sandbox's user cannot read "${hostPath}"`, { hint: `chmod -R a+rX ${hostPath}` });
      }
      return { hostPath, path, writable: false };
    }),
  );
}

async function copyReadable(from: string, to: string): Promise<string> {
  await cp(from, to, { recursive: true, verbatimSymlinks: true });
  chmodSync(to, 0o755);
  if (!statSync(to).isDirectory()) return to;
  for (const entry of await readdir(to, { withFileTypes: true, recursive: true })) {
    if (entry.isDirectory() || entry.isFile()) chmodSync(join(entry.parentPath, entry.name), 0o755);
  }
  return to;
}

export function volumeBinds(spec: SandboxSpec, identity: { uid: number; gid: number }): Bind[] {
  return spec.volumes.map(({ volume: { name, hostPath }, path, readOnly = false }) => {
    if (hostPath === undefined) throw new SandboxError(`Volume "${name}" is not one of the local provider`);
    if (readOnly) {
      // its writer may be another user; the folder above is closed to everybody
      chmodSync(hostPath, 0o755);
    } else giveFolder(hostPath, identity.uid, identity.gid);
    return { hostPath, path, writable: !readOnly };
  });
}
