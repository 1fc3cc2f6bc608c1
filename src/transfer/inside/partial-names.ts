/** Names that transfers use for what is not complete. Nothing that bears one is sent, and none is accepted. */
import { createHash } from "node:crypto";

const prefix = ".modal-sb-partial-";

export function isPartialName(name: string): boolean {
  return name.startsWith(prefix);
}

/** Beside the file of that name, and the same in the next attempt, which goes on with it. */
export function partialName(name: string): string {
  return prefix + createHash("sha256").update(name).digest("hex").slice(0, 24);
}

/**
 * In a folder that a transfer made and has not finished, with `source` as its content: the same transfer goes on in that
 * folder, where otherwise it would be put inside it, as one that was there.
 */
export const unfinishedMark = `${prefix}transfer`;
