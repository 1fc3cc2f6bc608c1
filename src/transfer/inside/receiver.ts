/** The receiving side. The sender may be hostile: every step is checked, and nothing is kept that it could make grow. */
import { closeSync, constants, fsyncSync, statfsSync } from "node:fs";
import type { Frame, FrameWriter } from "./frames.ts";
import { type MessageOf, maxOpenEntries, type Outcome } from "./messages.ts";
import { hashPrefix, PartialFile, type Prefix } from "./partial-file.ts";
import { isPartialName } from "./partial-names.ts";
import { namesOf } from "./path.ts";
import { openTarget, type Target, type TargetRequest } from "./target.ts";
import { systemCode, TransferFault } from "./transfer-fault.ts";
import { leftOut } from "./walk.ts";

/** files that wait for the disk at the same time */
const maxFinishing = 64;
/** changed folders that are remembered until they are flushed */
const maxDirty = 256;

export interface ReceiverOptions extends TargetRequest {
  /** replace files that are there with other content */
  overwrite: boolean;
  /** say to the sender what became of each entry; otherwise only that it is settled */
  tellOutcomes: boolean;
  /** flush files and folders to the disk */
  durable: boolean;
  /** the mode bits that are taken over; the user's own rights to read and write are always set */
  modeMask: number;
  maxEntries: number;
  maxBytes: number;
  /** is looked at where a step takes long */
  signal?: AbortSignal | undefined;
}

export interface ReceiverEvents {
  onResult?(entry: Arrival, outcome: Outcome, code: string): void;
  onSkipped?(path: string, code: string): void;
  /** `sent`: false for those that an earlier attempt had left */
  onBytes?(path: string, bytes: number, sent: boolean): void;
  onTotal?(files: number, bytes: number): void;
}

/** An announced entry that has no result. */
export interface Arrival {
  id: number;
  kind: "file" | "folder";
  path: string;
  place: readonly string[];
  mode: number;
  size: number;
  /** what of it was there before the transfer */
  prefix?: Prefix;
  /** of the file that is in its place */
  sha256?: string;
  changed: boolean;
}

export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #out: FrameWriter;
  readonly #events: ReceiverEvents;
  #target: Target | undefined;
  #kind: "file" | "folder" = "folder";
  readonly #arrivals = new Map<number, Arrival>();
  /** of those that have no result: two could not share a partial file */
  readonly #paths = new Set<string>();
  readonly #finishing = new Set<Promise<void>>();
  readonly #dirty = new Set<string>();
  #current: { arrival: Arrival; file: PartialFile } | undefined;
  /** bytes of a file that could not be written, which were on their way when the sender learned of it */
  #stray = 0;
  #nextId = 0;
  #entries = 0;
  #bytes = 0;
  #failures = 0;
  #fault: unknown;

  constructor(options: ReceiverOptions, out: FrameWriter, events: ReceiverEvents = {}) {
    this.#options = options;
    this.#out = out;
    this.#events = events;
  }

  /** True when the sender has said that it is done, and all is in its place. Throws a TransferFault. */
  async receive(frame: Frame): Promise<boolean> {
    if (this.#fault) throw this.#fault;
    if ("bytes" in frame) await this.#add(frame.bytes);
    else return await this.#take(frame.message);
    return false;
  }

  /** Ends it early, in a state that the next attempt goes on from. */
  async leave(): Promise<void> {
    await Promise.allSettled(this.#finishing);
    const current = this.#current;
    this.#current = undefined;
    await current?.file.leave();
    this.#target?.tree[Symbol.dispose]();
    this.#target = undefined;
  }

  async #take(message: Exclude<Frame, { bytes: Buffer }>["message"]): Promise<boolean> {
    switch (message.t) {
      case "root":
        return this.#begin(message);
      case "folder":
      case "file":
        await this.#announced(message);
        return false;
      case "skipped":
        this.#count();
        namesOf(message.path);
        if (!leftOut.includes(message.code)) this.#failures += 1;
        this.#events.onSkipped?.(message.path, message.code);
        return false;
      case "total":
        this.#count();
        this.#events.onTotal?.(message.files, message.bytes);
        return false;
      case "hashed":
        await this.#compared(message);
        return false;
      case "begin":
        await this.#opened(message);
        return false;
      case "end":
        await this.#ended(message);
        return false;
      case "broken":
        await this.#broken(message);
        return false;
      case "done":
        return await this.#complete();
      default:
        throw new TransferFault("protocol", `an unexpected ${message.t}`);
    }
  }

  #begin({ kind }: MessageOf<"root">): false {
    if (this.#target || (kind !== "file" && kind !== "folder")) throw new TransferFault("protocol", "a wrong root");
    this.#kind = kind;
    this.#target = openTarget(this.#options, kind);
    return false;
  }

  #count(): void {
    this.#entries += 1;
    if (this.#entries > this.#options.maxEntries) throw new TransferFault("entries", String(this.#options.maxEntries));
  }

  async #announced(message: MessageOf<"folder" | "file">): Promise<void> {
    const target = this.#openTarget();
    this.#count();
    const names = namesOf(message.path);
    if (message.id !== this.#nextId) throw new TransferFault("protocol", "a number out of turn");
    this.#nextId += 1;
    if (this.#kind === "file" && (message.t !== "file" || message.path !== "" || message.id > 0)) {
      throw new TransferFault("protocol", "more than one file");
    }
    const { id, t: kind, path, mode } = message;
    const size = message.t === "file" ? message.size : 0;
    const arrival: Arrival = { id, kind, path, place: [...target.top, ...names], mode, size, changed: false };
    if (this.#arrivals.size >= maxOpenEntries || this.#paths.has(path)) {
      throw new TransferFault("protocol", "too much at once");
    }
    this.#arrivals.set(id, arrival);
    this.#paths.add(path);
    if (arrival.place.some(isPartialName)) return this.#close(arrival, "failed", "partial");
    try {
      if (kind === "folder") this.#makeFolder(target, arrival);
      else await this.#decide(target, arrival);
    } catch (error) {
      this.#failed(arrival, error);
    }
  }

  #makeFolder({ tree }: Target, arrival: Arrival): void {
    const made = arrival.place.length > 0 && tree.makeFolder(arrival.place, this.#modeOf(arrival));
    if (made) this.#touched(arrival.place);
    this.#close(arrival, made ? "put" : "there", "");
  }

  /** Asks for the file, or, when one of its size is in its place, whether it is the same. */
  async #decide({ tree }: Target, arrival: Arrival): Promise<void> {
    const { id, place, size } = arrival;
    const found = tree.look(place);
    if (found?.isDirectory()) return this.#close(arrival, "failed", "EISDIR");
    if (found?.isFile() && found.size === size) {
      const file = tree.open(place, constants.O_RDONLY | constants.O_NONBLOCK);
      try {
        // the other side says its hash and does not learn ours: the file may be one that it has no business with
        this.#out.post({ t: "check", id });
        arrival.sha256 = (await hashPrefix(file, size, this.#options.signal)).hash.digest("hex");
      } finally {
        closeSync(file);
      }
    } else if (found && !this.#options.overwrite) this.#close(arrival, "exists", "");
    else await this.#want(tree, arrival);
  }

  async #want(tree: Target["tree"], arrival: Arrival): Promise<void> {
    const { id, place, size } = arrival;
    const prefix = await PartialFile.left(tree, place, size, this.#options.signal);
    const missing = size - (prefix?.bytes ?? 0);
    this.#expect(missing);
    if (missing > 1024 * 1024) requireSpace(tree, missing);
    if (prefix) arrival.prefix = prefix;
    const sha256 = prefix?.hash.copy().digest("hex") ?? "";
    this.#out.post({ t: "want", id, from: prefix?.bytes ?? 0, sha256 });
  }

  #expect(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.#options.maxBytes) throw new TransferFault("bytes", String(this.#options.maxBytes));
  }

  async #compared({ id, sha256 }: MessageOf<"hashed">): Promise<void> {
    const arrival = this.#arrival(id);
    if (arrival.sha256 === sha256) return this.#close(arrival, "there", "");
    if (!this.#options.overwrite) return this.#close(arrival, "exists", "");
    try {
      await this.#want(this.#openTarget().tree, arrival);
    } catch (error) {
      this.#failed(arrival, error);
    }
  }

  async #opened({ id, from }: MessageOf<"begin">): Promise<void> {
    const arrival = this.#arrival(id);
    const { prefix, place } = arrival;
    if (this.#current || arrival.kind !== "file" || (from !== 0 && from !== prefix?.bytes)) {
      throw new TransferFault("protocol", "a beginning out of turn");
    }
    if (from > 0) this.#events.onBytes?.(arrival.path, from, false);
    else this.#expect(prefix?.bytes ?? 0);
    this.#stray = 0;
    try {
      const file = PartialFile.open(
        this.#openTarget().tree,
        place,
        from > 0 ? prefix : undefined,
        this.#options.durable,
      );
      this.#current = { arrival, file };
    } catch (error) {
      this.#stray = arrival.size - from;
      this.#failed(arrival, error);
    }
  }

  async #add(bytes: Buffer): Promise<void> {
    if (!this.#current) {
      this.#stray -= bytes.length;
      if (this.#stray < 0) throw new TransferFault("protocol", "data of no file");
      return;
    }
    const { arrival, file } = this.#current;
    if (file.position + bytes.length > arrival.size) throw new TransferFault("protocol", "more than was announced");
    this.#events.onBytes?.(arrival.path, bytes.length, true);
    try {
      await file.add(bytes);
    } catch (error) {
      await this.#drop(error);
    }
  }

  async #ended({ id, sha256, changed }: MessageOf<"end">): Promise<void> {
    const current = this.#current;
    // it had failed before
    if (!current) return;
    if (current.arrival.id !== id) throw new TransferFault("protocol", "an end out of turn");
    const { arrival, file } = current;
    try {
      if (file.position !== arrival.size || !(await file.isWhole(sha256))) {
        this.#current = undefined;
        await file.discard();
        return this.#close(arrival, "failed", "checksum");
      }
    } catch (error) {
      return await this.#drop(error);
    }
    this.#current = undefined;
    arrival.changed = changed;
    while (this.#finishing.size >= maxFinishing) await Promise.race(this.#finishing);
    const finishing = this.#finish(arrival, file).finally(() => this.#finishing.delete(finishing));
    this.#finishing.add(finishing);
  }

  async #finish(arrival: Arrival, file: PartialFile): Promise<void> {
    try {
      await file.finish(this.#modeOf(arrival));
      this.#touched(arrival.place);
      this.#close(arrival, "put", arrival.changed ? "changed" : "");
    } catch (error) {
      try {
        this.#failed(arrival, error);
      } catch (fault) {
        this.#fault ??= fault;
      }
    }
  }

  async #broken({ id, code }: MessageOf<"broken">): Promise<void> {
    // it had failed before
    if (id < this.#nextId && !this.#arrivals.has(id)) return;
    const arrival = this.#arrival(id);
    if (this.#current?.arrival === arrival) {
      const { file } = this.#current;
      this.#current = undefined;
      await file.discard();
    }
    this.#close(arrival, "failed", code);
  }

  /** The current file cannot be written. */
  async #drop(error: unknown): Promise<void> {
    const current = this.#current;
    if (!current) return;
    this.#current = undefined;
    this.#stray = current.arrival.size - current.file.position;
    await current.file.leave();
    this.#failed(current.arrival, error);
  }

  async #complete(): Promise<true> {
    const target = this.#openTarget();
    await Promise.all(this.#finishing);
    if (this.#fault) throw this.#fault;
    if (this.#arrivals.size > 0) throw new TransferFault("protocol", "an end before all was sent");
    if (this.#failures === 0) target.complete();
    this.#flush();
    target.tree[Symbol.dispose]();
    this.#target = undefined;
    this.#out.post({ t: "bye" });
    return true;
  }

  #openTarget(): Target {
    if (!this.#target) throw new TransferFault("protocol", "no root");
    return this.#target;
  }

  #arrival(id: number): Arrival {
    const arrival = this.#arrivals.get(id);
    if (!arrival) throw new TransferFault("protocol", "what was not announced");
    return arrival;
  }

  #modeOf({ kind, mode }: Arrival): number {
    return (mode & this.#options.modeMask) | (kind === "folder" ? 0o700 : 0o600);
  }

  /** A full disk ends the transfer; other errors are this entry's own. */
  #failed(arrival: Arrival, error: unknown): void {
    this.#options.signal?.throwIfAborted();
    if (error instanceof TransferFault) throw error;
    const code = systemCode(error);
    if (code === "ENOSPC" || code === "EDQUOT") throw new TransferFault("disk", code);
    this.#close(arrival, "failed", code);
  }

  #close(arrival: Arrival, outcome: Outcome, code: string): void {
    this.#arrivals.delete(arrival.id);
    this.#paths.delete(arrival.path);
    if (outcome === "exists" || (outcome === "failed" && !leftOut.includes(code))) this.#failures += 1;
    this.#events.onResult?.(arrival, outcome, code);
    const told = this.#options.tellOutcomes ? { outcome, code } : { outcome: "put", code: "" };
    this.#out.post({ t: "result", id: arrival.id, ...told });
  }

  /** The folder above has a new entry. */
  #touched(place: readonly string[]): void {
    if (!this.#options.durable) return;
    this.#dirty.add(place.slice(0, -1).join("/"));
    if (this.#dirty.size > maxDirty) this.#flush();
  }

  #flush(): void {
    const { tree } = this.#openTarget();
    for (const folder of this.#dirty) {
      try {
        fsyncSync(tree.folder(folder === "" ? [] : folder.split("/")));
      } catch (error) {
        // some file systems cannot flush a folder, and the user may have removed one
        if (!["EINVAL", "ENOTSUP", "ENOENT"].includes(systemCode(error))) throw error;
      }
    }
    this.#dirty.clear();
  }
}

function requireSpace(tree: Target["tree"], bytes: number): void {
  const { bavail, bsize } = statfsSync(`/proc/self/fd/${tree.folder([])}`);
  if (bytes > bavail * bsize) throw new TransferFault("disk", `${bytes} bytes are needed, ${bavail * bsize} are free`);
}
