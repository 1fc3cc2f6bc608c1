/** Copies between folders by what has changed, for volumes. */
import { constants } from "node:fs";
import {
  chmod,
  copyFile,
  lchown,
  link,
  lstat,
  mkdir,
  readdir,
  readlink,
  rename,
  rm,
  symlink,
  utimes,
} from "node:fs/promises";
import { dirname, join } from "node:path";

/** Path below the folder → what tells a change. */
export type Manifest = Map<string, Entry>;

interface Entry {
  kind: "file" | "folder" | "link";
  mode: number;
  /** kind, mode, size, time of change and, for links, target */
  print: string;
}

/** What is under the folder; what vanishes meanwhile is left out, sockets and pipes too. */
export async function manifestOf(folder: string): Promise<Manifest> {
  const manifest: Manifest = new Map();
  await walk(folder, "", manifest);
  return manifest;
}

async function walk(folder: string, below: string, manifest: Manifest): Promise<void> {
  const names = await readdir(join(folder, below)).catch(() => []);
  for (const name of names.sort()) {
    const path = below ? `${below}/${name}` : name;
    const stats = await lstat(join(folder, path), { bigint: true }).catch(() => undefined);
    if (!stats) continue;
    const mode = Number(stats.mode) & 0o7777;
    if (stats.isDirectory()) {
      manifest.set(path, { kind: "folder", mode, print: `d ${mode}` });
      await walk(folder, path, manifest);
    } else if (stats.isFile()) {
      manifest.set(path, { kind: "file", mode, print: `f ${mode} ${stats.size} ${stats.mtimeNs}` });
    } else if (stats.isSymbolicLink()) {
      const target = await readlink(join(folder, path)).catch(() => "");
      manifest.set(path, { kind: "link", mode, print: `l ${target}` });
    }
  }
}

/** What must be written and taken away to come from `before` to `after`. */
export function difference(before: Manifest, after: Manifest): { changed: string[]; gone: string[] } {
  const changed = [...after].filter(([path, entry]) => before.get(path)?.print !== entry.print).map(([path]) => path);
  const gone = [...before.keys()].filter((path) => !after.has(path)).reverse();
  return { changed, gone };
}

/**
 * Brings one path over, whole or not at all: a reader never sees half a file. `linked` may be used where nobody writes
 * into the file in place. False when the source has vanished or changed kind meanwhile.
 */
export async function bring(from: string, to: string, path: string, entry: Entry, linked = false): Promise<boolean> {
  const source = join(from, path);
  const target = join(to, path);
  await mkdir(dirname(target), { recursive: true });
  const there = await lstat(target).catch(() => undefined);
  if (there && there.isDirectory() !== (entry.kind === "folder")) await rm(target, { recursive: true, force: true });
  if (entry.kind === "folder") {
    await mkdir(target, { recursive: true });
    await chmod(target, entry.mode);
    await keepOwner(source, target);
    return true;
  }
  const draft = join(dirname(target), `.emulator-${process.pid}-${counter++}`);
  try {
    if (entry.kind === "link") {
      await symlink(await readlink(source), draft);
    } else if (linked) {
      await link(source, draft);
    } else {
      await copyFile(source, draft, constants.COPYFILE_FICLONE);
      await chmod(draft, entry.mode);
    }
    if (!linked) await keepStats(source, draft);
    await rename(draft, target);
    return true;
  } catch {
    await rm(draft, { force: true });
    return false;
  }
}

let counter = 0;

async function keepStats(source: string, draft: string): Promise<void> {
  const stats = await lstat(source);
  await lchown(draft, stats.uid, stats.gid);
  if (stats.isFile()) await utimes(draft, stats.atimeMs / 1000, stats.mtimeMs / 1000);
}

async function keepOwner(source: string, target: string): Promise<void> {
  const stats = await lstat(source).catch(() => undefined);
  if (stats) await lchown(target, stats.uid, stats.gid);
}

export async function take(folder: string, path: string): Promise<void> {
  await rm(join(folder, path), { recursive: true, force: true });
}
