/**
 * The Hub's storage of contents ("CAS", xet): pieces come in xorbs, and a shard says of which pieces a file is made. Read
 * as xet-core writes them (xorb_object_format, mdb_shard); hashes are names here, and not checked.
 */
import { lz4Decompress } from "./lz4.ts";

/** a hash has 32 bytes; files and xorbs in a shard have records of 48 */
const hashBytes = 32;
const recordBytes = 48;
const withVerification = 0x80000000;
const withMetadata = 0x40000000;

export class ContentStore {
  /** by hash: the pieces of a xorb */
  readonly #xorbs = new Map<string, Buffer[]>();
  readonly #files = new Map<string, Buffer>();

  addXorb(hash: string, body: Buffer): void {
    const pieces: Buffer[] = [];
    for (let at = 0; at < body.length; ) {
      // newer clients end a xorb with a table of its pieces
      if (body.toString("latin1", at, at + 7) === "XETBLOB") break;
      const packed = body.readUIntLE(at + 1, 3);
      const scheme = body.readUInt8(at + 4);
      const size = body.readUIntLE(at + 5, 3);
      pieces.push(unpacked(body.subarray(at + 8, at + 8 + packed), scheme, size));
      at += 8 + packed;
    }
    this.#xorbs.set(hash, pieces);
  }

  /** Throws when it names pieces that are not there. */
  addShard(body: Buffer): void {
    for (let at = recordBytes; ; ) {
      const hash = body.subarray(at, at + hashBytes);
      if (hash.every((byte) => byte === 0xff)) return;
      const flags = body.readUInt32LE(at + hashBytes);
      const parts = body.readUInt32LE(at + hashBytes + 4);
      at += recordBytes;
      const content: Buffer[] = [];
      for (let part = 0; part < parts; part += 1, at += recordBytes) {
        const xorb = this.#xorbs.get(hexOf(body.subarray(at, at + hashBytes)));
        if (!xorb) throw new Error("the shard names a xorb that was not uploaded");
        const [size, start, end] = [4, 8, 12].map((offset) => body.readUInt32LE(at + hashBytes + offset));
        const piece = Buffer.concat(xorb.slice(start, end));
        if (piece.length !== size) throw new Error(`a part has ${piece.length} bytes, and not ${size}`);
        content.push(piece);
      }
      if (flags & withVerification) at += parts * recordBytes;
      if (flags & withMetadata) at += recordBytes;
      this.#files.set(hexOf(hash), Buffer.concat(content));
    }
  }

  file(hash: string): Buffer | undefined {
    return this.#files.get(hash);
  }
}

function unpacked(data: Buffer, scheme: number, size: number): Buffer {
  if (scheme === 0) return data;
  if (scheme === 1) return lz4Decompress(data, size);
  if (scheme === 2) return together(lz4Decompress(data, size));
  throw new Error(`a piece is compressed by an unknown scheme, ${scheme}`);
}

/** Bytes that were put apart by their place in groups of four. */
function together(apart: Buffer): Buffer {
  const output = Buffer.alloc(apart.length);
  let from = 0;
  for (let place = 0; place < 4; place += 1) {
    for (let to = place; to < apart.length; to += 4) output[to] = apart[from++] ?? 0;
  }
  return output;
}

/** xet writes a hash as four numbers of 64 bits. */
function hexOf(hash: Buffer): string {
  return [0, 8, 16, 24].map((at) => hash.readBigUInt64LE(at).toString(16).padStart(16, "0")).join("");
}
