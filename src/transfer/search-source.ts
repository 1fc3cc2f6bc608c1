/** Reads all that is to be pushed, before anything is. */
import { closeSync, constants, read } from "node:fs";
import { promisify } from "node:util";
import type { CredentialSearch } from "./credential-search.ts";
import type { FolderTree } from "./inside/folder-tree.ts";
import type { Source } from "./inside/sender.ts";
import { walk } from "./inside/walk.ts";
import { credentialIn } from "./words.ts";

const readAsync = promisify(read);
const blockBytes = 1024 * 1024;

/** What there is. Throws a CredentialVisibleError that names the file, and the signal's reason. */
export async function searchSource(
  { kind, tree, top }: Source,
  search: CredentialSearch,
  signal: AbortSignal | undefined,
): Promise<{ files: number; bytes: number }> {
  const block = Buffer.allocUnsafe(blockBytes);
  const total = { files: 0, bytes: 0 };
  for (const path of kind === "file" ? [""] : pathsOf(tree, top)) {
    signal?.throwIfAborted();
    const inName = search.begin().push(Buffer.from(path, "latin1"));
    if (inName !== undefined) throw credentialIn(inName, "a file's name");
    total.files += 1;
    total.bytes += await searchFile(tree, path === "" ? top : [...top, ...path.split("/")], path, search, block);
  }
  return total;
}

function* pathsOf(tree: FolderTree, top: readonly string[]): Generator<string> {
  for (const entry of walk(tree, top)) if (entry.kind === "file") yield entry.path;
}

async function searchFile(
  tree: FolderTree,
  names: readonly string[],
  path: string,
  search: CredentialSearch,
  block: Buffer,
): Promise<number> {
  let file: number;
  try {
    file = tree.open(names, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    // it cannot be sent either, and is said then
    return 0;
  }
  try {
    const stream = search.begin();
    for (let position = 0; ; ) {
      const { bytesRead } = await readAsync(file, block, 0, blockBytes, position);
      if (bytesRead === 0) return position;
      position += bytesRead;
      const label = stream.push(block.subarray(0, bytesRead));
      if (label !== undefined) throw credentialIn(label, path);
    }
  } finally {
    closeSync(file);
  }
}
