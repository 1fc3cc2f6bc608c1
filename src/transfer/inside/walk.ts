/** What lies in a folder, depth first. No link is followed, and nothing is kept but the way down. */
import { closeSync, constants, type Dir, type Dirent, lstatSync, opendirSync, openSync, type Stats } from "node:fs";
import { entryPath, type FolderTree } from "./folder-tree.ts";
import { isPartialName } from "./partial-names.ts";
import { systemCode } from "./transfer-fault.ts";

/** what is left out on purpose; anything else that is skipped is missing afterwards */
export const leftOut: readonly string[] = ["link", "pipe", "socket", "device", "gone"];
/** each level costs two descriptors */
const maxDepth = 200;

/** `code` says why an entry is neither file nor folder for us: what it is, or the system's name of an error. */
export type Entry = { path: string } & ({ kind: "file" | "folder"; stat: Stats } | { kind: "skipped"; code: string });

interface Level {
  path: string;
  descriptor: number;
  dir: Dir;
}

/** Entries below the folder `names` of the tree; paths are relative to it, in latin1. */
export function* walk(tree: FolderTree, names: readonly string[]): Generator<Entry> {
  const levels: Level[] = [];
  try {
    levels.push(openLevel(tree.at(names), ""));
    for (let level = levels.at(-1); level; level = levels.at(-1)) {
      const found = next(level);
      if (!found) {
        close(levels.pop() as Level);
        continue;
      }
      const entry = entryOf(level, found.name);
      if (entry.kind !== "folder") {
        if (entry.kind !== "skipped" || entry.code !== "ENOENT") yield entry;
        continue;
      }
      const opened = levels.length < maxDepth ? tryOpen(level, found.name, entry.path) : "too deep";
      if (typeof opened === "string") {
        if (opened !== "ENOENT") yield { path: entry.path, kind: "skipped", code: opened };
        continue;
      }
      levels.push(opened);
      yield entry;
    }
  } finally {
    for (const level of levels) close(level);
  }
}

function next(level: Level): Dirent | null {
  for (;;) {
    const found = level.dir.readSync();
    // what another transfer has not finished is nobody's file
    if (!found || !isPartialName(found.name)) return found;
  }
}

function entryOf(level: Level, name: string): Entry {
  const path = level.path === "" ? name : `${level.path}/${name}`;
  try {
    const stat = lstatSync(entryPath(level.descriptor, name));
    if (stat.isFile()) return { path, kind: "file", stat };
    if (stat.isDirectory()) return { path, kind: "folder", stat };
    return { path, kind: "skipped", code: kindOf(stat) };
  } catch (error) {
    return { path, kind: "skipped", code: systemCode(error) };
  }
}

export function kindOf(stat: Stats): string {
  if (stat.isSymbolicLink()) return "link";
  if (stat.isFIFO()) return "pipe";
  if (stat.isSocket()) return "socket";
  return "device";
}

function tryOpen(level: Level, name: string, path: string): Level | string {
  try {
    return openLevel(entryPath(level.descriptor, name), path);
  } catch (error) {
    return systemCode(error);
  }
}

function openLevel(place: Parameters<typeof openSync>[0], path: string): Level {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  const descriptor = openSync(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    // names come as latin1, one character a byte
    return { path, descriptor, dir: opendirSync(`/proc/self/fd/${descriptor}`, { encoding: "latin1" }) };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

function close({ dir, descriptor }: Level): void {
  dir.closeSync();
  closeSync(descriptor);
}

/** How many files there are, and their bytes. Other work goes on meanwhile. */
export async function countFiles(
  tree: FolderTree,
  names: readonly string[],
): Promise<{ files: number; bytes: number }> {
  const total = { files: 0, bytes: 0 };
  let entries = 0;
  for (const entry of walk(tree, names)) {
    entries += 1;
    if (entries % 256 === 0) await new Promise((resolve) => setImmediate(resolve));
    if (entry.kind !== "file") continue;
    total.files += 1;
    total.bytes += entry.stat.size;
  }
  return total;
}
