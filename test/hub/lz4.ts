/** LZ4's frame format, as the clients of the Hub compress with it: without dictionary. (lz4_Frame_format.md, lz4_Block_format.md) */
export function lz4Decompress(frame: Buffer, size: number): Buffer {
  const output = Buffer.alloc(size);
  if (frame.readUInt32LE(0) !== 0x184d2204) throw new Error("no LZ4 frame");
  const flags = frame.readUInt8(4);
  // magic, flags, block descriptor, content size if told, checksum of the header
  let at = 6 + (flags & 0x08 ? 8 : 0) + 1;
  let written = 0;
  for (;;) {
    const word = frame.readUInt32LE(at);
    at += 4;
    if (word === 0) break;
    const length = word & 0x7fffffff;
    const block = frame.subarray(at, at + length);
    if (word >>> 31 === 1) written += block.copy(output, written);
    else written = unpackBlock(block, output, written);
    at += length + (flags & 0x10 ? 4 : 0);
  }
  if (written !== size) throw new Error(`${written} bytes where ${size} were told`);
  return output;
}

/** Returns the place after the last byte written. */
function unpackBlock(block: Buffer, output: Buffer, start: number): number {
  let at = 0;
  let to = start;
  const length = (nibble: number): number => {
    let sum = nibble;
    if (nibble === 15) {
      for (let more = 255; more === 255; sum += more) more = block.readUInt8(at++);
    }
    return sum;
  };
  while (at < block.length) {
    const token = block.readUInt8(at++);
    const literals = length(token >> 4);
    to += block.copy(output, to, at, at + literals);
    at += literals;
    if (at >= block.length) break;
    const distance = block.readUInt16LE(at);
    at += 2;
    const end = to + length(token & 15) + 4;
    for (; to < end; to += 1) output[to] = output[to - distance] ?? 0;
  }
  return to;
}
