/** Where something that is received goes, by the rules of `cp -r`. */
import { createHash } from "node:crypto";
import { closeSync, constants, fsyncSync, mkdirSync, readFileSync, statSync, unlinkSync, writeSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { FolderTree } from "./folder-tree.ts";
import { unfinishedMark } from "./partial-names.ts";
import { systemCode, TransferFault } from "./transfer-fault.ts";

export interface TargetRequest {
  /** path of a file or folder, which may be missing */
  to: string;
  /** name that the source has in a folder that was there before */
  name: string;
  /** not the source folder is put into a folder that was there before, but what is in it */
  contents: boolean;
  /** tells this source from others, for a folder that a transfer of it has not finished */
  source: string;
}

export interface Target {
  tree: FolderTree;
  /** the names that lead from the tree to what is received, in latin1 */
  top: readonly string[];
  /** To be called when all is in its place. */
  complete(): void;
}

/** Folders above what is made are made. Throws a TransferFault "target" when `to` cannot be what is asked. */
export function openTarget(request: TargetRequest, kind: "file" | "folder"): Target {
  try {
    const to = resolve(request.to);
    const found = statSync(to, { throwIfNoEntry: false });
    const isFolder = found?.isDirectory() || (kind === "file" && request.to.endsWith("/"));
    if (found && !isFolder && kind === "folder") throw new TransferFault("target", "ENOTDIR");
    if (!isFolder) return within(dirname(to), basename(to), found ? undefined : request, kind);
    if (kind === "file") return within(to, request.name, undefined, kind);
    const isUnfinished = isMarked(to, request);
    if (isUnfinished) return marked(new FolderTree(to), []);
    if (request.contents) return { tree: new FolderTree(to), top: [], complete: () => {} };
    return within(to, request.name, undefined, kind);
  } catch (error) {
    throw error instanceof TransferFault ? error : new TransferFault("target", systemCode(error));
  }
}

/** `made`: by whom a folder is made that was not there. */
function within(folder: string, name: string, made: TargetRequest | undefined, kind: "file" | "folder"): Target {
  mkdirSync(folder, { recursive: true });
  const tree = new FolderTree(folder);
  const top = [Buffer.from(name).toString("latin1")];
  if (kind === "file" || !made) return { tree, top, complete: () => {} };
  tree.makeFolder(top, 0o700);
  const mark = tree.open([...top, unfinishedMark], constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
  try {
    writeSync(mark, digestOf(made));
    fsyncSync(mark);
  } finally {
    closeSync(mark);
  }
  return marked(tree, top);
}

function marked(tree: FolderTree, top: readonly string[]): Target {
  return { tree, top, complete: () => unlinkSync(tree.at([...top, unfinishedMark])) };
}

function isMarked(folder: string, request: TargetRequest): boolean {
  const mark = join(folder, unfinishedMark);
  const stat = statSync(mark, { throwIfNoEntry: false });
  return stat?.isFile() === true && stat.size < 1024 && readFileSync(mark, "utf8") === digestOf(request);
}

function digestOf({ source }: TargetRequest): string {
  return createHash("sha256").update(source).digest("hex");
}
