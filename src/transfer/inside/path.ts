/** Paths from the other side. */
import { TransferFault } from "./transfer-fault.ts";

const maxPathBytes = 4096;
const maxNameBytes = 255;

/** The names in a path from the other side. Throws a TransferFault for one that leads elsewhere, or that no file system has. */
export function namesOf(path: string): string[] {
  if (path === "") return [];
  const names = path.split("/");
  const isGood =
    path.length <= maxPathBytes &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: all bytes but 0 may be in a name
    /^[\x01-\xff]*$/.test(path) &&
    names.every((name) => name !== "" && name !== "." && name !== ".." && name.length <= maxNameBytes);
  if (!isGood) throw new TransferFault("protocol", "a path that leads elsewhere");
  return names;
}
