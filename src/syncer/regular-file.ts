import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync, realpathSync } from "node:fs";
import { join } from "node:path";

/**
 * A file of a folder that somebody hostile writes to: no link is followed, on no part of its path, and nothing but a
 * regular file is read. Throws an Error that says why not.
 */
export function readRegularFile(folder: string, path: string, maxBytes: number): Buffer {
  const fd = openSync(join(folder, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error("it is not a regular file");
    // what was opened is asked where it lies: names may have become links meanwhile
    if (readlinkSync(`/proc/self/fd/${fd}`) !== join(realpathSync(folder), path)) {
      throw new Error("its path leads elsewhere");
    }
    if (stat.size > maxBytes) throw new Error(`it has ${stat.size} bytes, more than ${maxBytes}`);
    const buffer = Buffer.alloc(stat.size);
    return buffer.subarray(0, readSync(fd, buffer, 0, stat.size, 0));
  } finally {
    closeSync(fd);
  }
}
