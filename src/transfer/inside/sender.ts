/** The sending side: walks, announces, and sends what the other side asks for. */
import { createHash, type Hash } from "node:crypto";
import { closeSync, constants, fstatSync, read, readSync, type Stats, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { promisify } from "node:util";
import { FolderTree } from "./folder-tree.ts";
import type { FrameWriter } from "./frames.ts";
import { type Message, type MessageOf, maxOpenEntries } from "./messages.ts";
import { systemCode, TransferFault } from "./transfer-fault.ts";
import { kindOf, walk } from "./walk.ts";

const readAsync = promisify(read);
const blockBytes = 512 * 1024;
const pieceBytes = 128 * 1024;
/** up to here the detour of an asynchronous read costs more than the read */
const smallBytes = 64 * 1024;

export interface Source extends Disposable {
  kind: "file" | "folder";
  tree: FolderTree;
  /** the names that lead from the tree to what is sent */
  top: readonly string[];
}

/** Links that lead to `path` are followed: it was named. Throws a TransferFault "source". */
export function openSource(path: string): Source {
  try {
    const stat = statSync(path);
    if (!stat.isFile() && !stat.isDirectory()) throw new TransferFault("source", kindOf(stat));
    const isFile = stat.isFile();
    const tree = new FolderTree(isFile ? dirname(path) : path);
    const top = isFile ? [Buffer.from(basename(path)).toString("latin1")] : [];
    return { kind: isFile ? "file" : "folder", tree, top, [Symbol.dispose]: () => tree[Symbol.dispose]() };
  } catch (error) {
    throw error instanceof TransferFault ? error : new TransferFault("source", systemCode(error));
  }
}

export interface SenderEvents {
  /** Is told of each piece before it leaves; what it throws ends the transfer. */
  onBytes?(path: string, bytes: Buffer, position: number): void;
  /** The other side has so many bytes of the file already. */
  onResumed?(path: string, bytes: number): void;
  onSkipped?(path: string, code: string): void;
  onResult?(entry: SentEntry, result: MessageOf<"result">): void;
}

export interface SentEntry {
  path: string;
  kind: "file" | "folder";
  size: number;
  /** requests that were made for it: each may be made once */
  asked: Set<string>;
}

type Request = MessageOf<"want" | "check">;

export class Sender {
  readonly #source: Source;
  readonly #out: FrameWriter;
  readonly #events: SenderEvents;
  readonly #open = new Map<number, SentEntry>();
  readonly #requests: Request[] = [];
  /** one is being read, one hashed, one is on its way */
  readonly #blocks = [0, 1, 2].map(() => Buffer.allocUnsafeSlow(blockBytes));
  #nextId = 0;
  #wake: () => void = () => {};

  constructor(source: Source, out: FrameWriter, events: SenderEvents = {}) {
    this.#source = source;
    this.#out = out;
    this.#events = events;
  }

  /** Takes what the receiving side says. */
  receive(message: Message): void {
    if (message.t === "want" || message.t === "check") {
      const entry = this.#open.get(message.id);
      if (!entry) throw new TransferFault("protocol", "a request for what was not announced");
      if (entry.asked.has(message.t)) throw new TransferFault("protocol", "a request that was made before");
      entry.asked.add(message.t);
      this.#requests.push(message);
    } else if (message.t === "result") {
      const entry = this.#open.get(message.id);
      if (!entry) throw new TransferFault("protocol", "a result of what was not announced");
      this.#open.delete(message.id);
      this.#events.onResult?.(entry, message);
    }
    this.#wake();
  }

  /** Resolves when every entry has its result. */
  async run(): Promise<void> {
    const { tree, top, kind } = this.#source;
    this.#out.post({ t: "root", kind });
    const entries = kind === "folder" ? walk(tree, top) : undefined;
    this.#announce("", kind, tree.look(top));
    for (let isWalking = entries !== undefined; ; ) {
      const request = this.#open.size < maxOpenEntries / 2 && isWalking ? undefined : this.#requests.shift();
      if (request) await this.#serve(request);
      else if (isWalking && this.#open.size < maxOpenEntries) isWalking = this.#step(entries);
      else if (!isWalking && this.#open.size === 0) break;
      else await this.#change();
    }
    this.#out.post({ t: "done" });
  }

  #change(): Promise<void> {
    if (this.#requests.length > 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** False when there is nothing more. */
  #step(entries: ReturnType<typeof walk> | undefined): boolean {
    const { value: entry, done } = entries?.next() ?? { done: true };
    if (done || !entry) return false;
    if (entry.kind === "skipped") {
      this.#events.onSkipped?.(entry.path, entry.code);
      this.#out.post({ t: "skipped", path: entry.path, code: entry.code });
    } else this.#announce(entry.path, entry.kind, entry.stat);
    return true;
  }

  #announce(path: string, kind: "file" | "folder", stat: Stats | undefined): void {
    const [id, mode, size] = [this.#nextId++, (stat?.mode ?? 0) & 0o777, kind === "file" ? (stat?.size ?? 0) : 0];
    this.#open.set(id, { path, kind, size, asked: new Set() });
    this.#out.post(kind === "file" ? { t: "file", id, path, mode, size } : { t: "folder", id, path, mode });
  }

  async #serve(request: Request): Promise<void> {
    const entry = this.#open.get(request.id);
    if (!entry) throw new TransferFault("protocol", "a request for what has its result");
    const names = entry.path === "" ? this.#source.top : [...this.#source.top, ...entry.path.split("/")];
    let file: number;
    try {
      file = this.#source.tree.open(names, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      const code = systemCode(error);
      this.#out.post({ t: "broken", id: request.id, code: code === "ENOENT" ? "gone" : code });
      return;
    }
    try {
      const code = await this.#answer(request, entry, file);
      if (code !== undefined) this.#out.post({ t: "broken", id: request.id, code });
    } finally {
      closeSync(file);
    }
  }

  /** Why the file cannot be sent; undefined when it was. */
  async #answer(request: Request, entry: SentEntry, file: number): Promise<string | undefined> {
    const { id } = request;
    const before = fstatSync(file);
    if (!before.isFile()) return kindOf(before);
    if (before.size < entry.size) return "changed";
    const hash = createHash("sha256");
    const known = request.t === "want" ? request.from : entry.size;
    if (known > entry.size) throw new TransferFault("protocol", "a prefix longer than the file");
    if (!(await this.#each(file, 0, known, async (bytes) => void hash.update(bytes)))) return "changed";
    if (request.t === "check") {
      this.#out.post({ t: "hashed", id, sha256: hash.digest("hex") });
      return undefined;
    }
    const isSame = known === 0 || hash.copy().digest("hex") === request.sha256;
    return await this.#send(entry, { id, file, before, from: isSame ? known : 0, hash: isSame ? hash : undefined });
  }

  async #send(
    entry: SentEntry,
    { id, file, before, from, hash = createHash("sha256") }: SendParts,
  ): Promise<string | undefined> {
    this.#out.post({ t: "begin", id, from });
    if (from > 0) this.#events.onResumed?.(entry.path, from);
    let position = from;
    const isWhole = await this.#each(file, from, entry.size, async (bytes) => {
      this.#events.onBytes?.(entry.path, bytes, position);
      position += bytes.length;
      const written = this.#out.data(bytes);
      hash.update(bytes);
      await written;
    });
    if (!isWhole) return "changed";
    const after = fstatSync(file);
    const changed = after.size !== entry.size || after.mtimeMs !== before.mtimeMs;
    this.#out.post({ t: "end", id, sha256: hash.digest("hex"), changed });
    return undefined;
  }

  /**
   * Gives the bytes of a span in pieces; while they are used, the next block is read. A piece is used until `use` has
   * resolved, and several are at once. False when the file is shorter.
   */
  async #each(file: number, from: number, to: number, use: (bytes: Buffer) => Promise<void>): Promise<boolean> {
    const first = this.#blocks[0] as Buffer;
    if (to - from <= smallBytes) {
      const bytes = from === to ? 0 : readSync(file, first, 0, to - from, from);
      if (bytes > 0) await use(first.subarray(0, bytes));
      return bytes === to - from;
    }
    const using: Promise<unknown>[] = this.#blocks.map(() => Promise.resolve());
    const readAt = async (index: number, position: number): Promise<Buffer> => {
      const block = this.#blocks[index % this.#blocks.length] as Buffer;
      await using[index % using.length];
      const { bytesRead } = await readAsync(file, block, 0, Math.min(blockBytes, to - position), position);
      return block.subarray(0, bytesRead);
    };
    let reading = readAt(0, from);
    try {
      for (let [index, position] = [0, from]; position < to; index += 1) {
        const block = await reading;
        if (block.length === 0) return false;
        position += block.length;
        if (position < to) {
          reading = readAt(index + 1, position);
          reading.catch(() => {});
        }
        const pieces = Promise.all(await usePieces(block, use));
        // whoever awaits it next gets its error
        pieces.catch(() => {});
        using[index % using.length] = pieces;
      }
      await Promise.all(using);
      return true;
    } finally {
      // neither the file nor a buffer is anybody else's while it is used here
      await Promise.allSettled([reading, ...using]);
    }
  }
}

/** Begins to use a block's pieces, with a turn of the event loop after each, in which pipes are served. */
async function usePieces(block: Buffer, use: (bytes: Buffer) => Promise<void>): Promise<Promise<void>[]> {
  const pieces: Promise<void>[] = [];
  for (let at = 0; at < block.length; at += pieceBytes) {
    const piece = use(block.subarray(at, at + pieceBytes));
    piece.catch(() => {});
    pieces.push(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return pieces;
}

interface SendParts {
  id: number;
  file: number;
  before: Stats;
  from: number;
  hash: Hash | undefined;
}
