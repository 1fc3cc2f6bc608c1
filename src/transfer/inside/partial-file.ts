/**
 * A file that is arriving: under another name beside its place, until all of it is there and is what the sender hashed.
 * An attempt that ends early leaves it, and the next goes on after what it proves to be the same.
 */
import { createHash, type Hash } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fdatasync,
  fstatSync,
  fsync,
  ftruncateSync,
  read,
  renameSync,
  unlinkSync,
  writev,
  writevSync,
} from "node:fs";
import { promisify } from "node:util";
import type { FolderTree } from "./folder-tree.ts";
import { partialName } from "./partial-names.ts";

const readAsync = promisify(read);
const writevAsync = promisify(writev);
const fsyncAsync = promisify(fsync);
const fdatasyncAsync = promisify(fdatasync);
const blockBytes = 1024 * 1024;
/** what has been written is sent to the disk in such steps, so that the end need not wait for all of it */
const flushBytes = 64 * 1024 * 1024;

/** Bytes and the SHA-256 of what is there of a file, as far as `maxBytes`. */
export interface Prefix {
  bytes: number;
  hash: Hash;
}

/** Hashes the first `bytes` of an open file, however many there are. Throws the signal's reason. */
export async function hashPrefix(file: number, bytes: number, signal?: AbortSignal): Promise<Prefix> {
  const hash = createHash("sha256");
  const block = Buffer.allocUnsafe(Math.min(blockBytes, bytes));
  let position = 0;
  while (position < bytes) {
    signal?.throwIfAborted();
    const { bytesRead } = await readAsync(file, block, 0, Math.min(block.length, bytes - position), position);
    if (bytesRead === 0) break;
    hash.update(block.subarray(0, bytesRead));
    position += bytesRead;
  }
  return { bytes: position, hash };
}

export class PartialFile {
  readonly #tree: FolderTree;
  readonly #place: readonly string[];
  readonly #partial: readonly string[];
  readonly #file: number;
  readonly #hash: Hash;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  #written: number;
  #position: number;
  readonly #durable: boolean;
  #unflushed = 0;
  #flushing: Promise<void> = Promise.resolve();

  private constructor(tree: FolderTree, place: readonly string[], file: number, prefix: Prefix, durable: boolean) {
    this.#tree = tree;
    this.#place = place;
    this.#partial = partialPath(place);
    this.#file = file;
    this.#hash = prefix.hash;
    this.#written = prefix.bytes;
    this.#position = prefix.bytes;
    this.#durable = durable;
  }

  /** What an earlier attempt has left, if it can be the beginning of a file of `size` bytes. */
  static async left(
    tree: FolderTree,
    place: readonly string[],
    size: number,
    signal: AbortSignal | undefined,
  ): Promise<Prefix | undefined> {
    const stat = tree.look(partialPath(place));
    if (!stat?.isFile() || stat.size === 0 || stat.size > size) return undefined;
    const file = tree.open(partialPath(place), constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return await hashPrefix(file, stat.size, signal);
    } finally {
      closeSync(file);
    }
  }

  /** Goes on after `prefix`, or begins anew. `durable`: it gets its name only when the disk has it. */
  static open(tree: FolderTree, place: readonly string[], prefix: Prefix | undefined, durable: boolean): PartialFile {
    const { O_RDWR, O_CREAT, O_NONBLOCK } = constants;
    const path = partialPath(place);
    const found = tree.look(path);
    // a hard link would be written through
    if (found && (!found.isFile() || found.nlink !== 1)) unlinkSync(tree.at(path));
    const file = tree.open(path, O_RDWR | O_CREAT | O_NONBLOCK, 0o600);
    try {
      const start = prefix ?? { bytes: 0, hash: createHash("sha256") };
      if (found && fstatSync(file).size !== start.bytes) ftruncateSync(file, start.bytes);
      return new PartialFile(tree, place, file, start, durable);
    } catch (error) {
      closeSync(file);
      throw error;
    }
  }

  get position(): number {
    return this.#position;
  }

  /** Takes the next bytes; resolves at once, or when so many wait that they are written first. */
  async add(bytes: Buffer): Promise<void> {
    this.#hash.update(bytes);
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#position += bytes.length;
    if (this.#waitingBytes < blockBytes) return;
    await this.#writing;
    this.#writing = this.#write();
    // an error is thrown to whoever awaits it next
    this.#writing.catch(() => {});
  }

  async #write(): Promise<void> {
    let waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    while (waiting.length > 0) {
      const { bytesWritten } = await writevAsync(this.#file, waiting, this.#written);
      this.#written += bytesWritten;
      this.#unflushed += bytesWritten;
      waiting = after(waiting, bytesWritten);
    }
    if (this.#durable && this.#unflushed >= flushBytes) this.#flush();
  }

  /** Begins to send what was written to the disk. */
  #flush(): void {
    this.#unflushed = 0;
    this.#flushing = this.#flushing.then(() => fdatasyncAsync(this.#file));
    this.#flushing.catch(() => {});
  }

  /** True when all that came has this hash. */
  async isWhole(sha256: string): Promise<boolean> {
    await this.#writing;
    if (this.#waiting.length > 0 && this.#waitingBytes <= blockBytes) this.#writeSmall();
    return this.#hash.digest("hex") === sha256;
  }

  #writeSmall(): void {
    let waiting = this.#waiting;
    this.#waiting = [];
    while (waiting.length > 0) {
      const bytesWritten = writevSync(this.#file, waiting, this.#written);
      this.#written += bytesWritten;
      waiting = after(waiting, bytesWritten);
    }
  }

  /** Puts it in its place and closes it. */
  async finish(mode: number): Promise<void> {
    try {
      fchmodSync(this.#file, mode);
      await this.#flushing;
      if (this.#durable) await fsyncAsync(this.#file);
      const from = this.#tree.at(this.#partial);
      renameSync(from, this.#tree.at(this.#place));
    } finally {
      await Promise.allSettled([this.#flushing]);
      closeSync(this.#file);
    }
  }

  /** Closes it, and leaves what is there for the next attempt. */
  async leave(): Promise<void> {
    await Promise.allSettled([this.#writing, this.#flushing]);
    try {
      if (this.#waiting.length > 0) this.#writeSmall();
    } catch {
      // the next attempt begins a little earlier
    }
    closeSync(this.#file);
  }

  /** Closes and removes it. */
  async discard(): Promise<void> {
    await Promise.allSettled([this.#writing, this.#flushing]);
    closeSync(this.#file);
    unlinkSync(this.#tree.at(this.#partial));
  }
}

function partialPath(place: readonly string[]): string[] {
  return [...place.slice(0, -1), partialName(place.at(-1) ?? "")];
}

/** What is left of buffers after their first `bytes`. */
function after(buffers: readonly Buffer[], bytes: number): Buffer[] {
  let skip = bytes;
  return buffers.flatMap((buffer) => {
    const left = buffer.subarray(Math.min(skip, buffer.length));
    skip -= buffer.length - left.length;
    return left.length > 0 ? [left] : [];
  });
}
