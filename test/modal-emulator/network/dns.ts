/** A resolver that knows every name: DNS stays open on Modal whatever the allow-list says. */
import type { Socket as DatagramSocket } from "node:dgram";
import type { Server } from "node:net";

const headerBytes = 12;
const recordTypes = { a: 1 };

/** Answers datagrams, each with the one address. */
export function answerDatagrams(socket: DatagramSocket, address: string): void {
  socket.on("message", (query, from) => {
    const answer = answerTo(query, address);
    if (answer) socket.send(answer, from.port, from.address);
  });
  socket.on("error", () => {});
}

/** The same over TCP, where a length of two bytes comes before every message (RFC 1035, 4.2.2). */
export function answerConnections(server: Server, address: string): void {
  server.on("connection", (socket) => {
    let unread = Buffer.alloc(0);
    socket.on("error", () => {});
    socket.setTimeout(10_000, () => socket.destroy());
    socket.on("data", (chunk) => {
      unread = Buffer.concat([unread, chunk]);
      while (unread.length >= 2 && unread.length >= 2 + unread.readUInt16BE(0)) {
        const size = unread.readUInt16BE(0);
        const answer = answerTo(unread.subarray(2, 2 + size), address);
        unread = unread.subarray(2 + size);
        if (!answer) {
          socket.destroy();
          return;
        }
        const length = Buffer.alloc(2);
        length.writeUInt16BE(answer.length);
        socket.write(Buffer.concat([length, answer]));
      }
    });
  });
}

/** Undefined: this is no query of one question. Other types than A have an empty answer. */
export function answerTo(query: Buffer, address: string): Buffer | undefined {
  if (query.length < headerBytes) return undefined;
  const isQuery = (query.readUInt8(2) & 0xf8) === 0 && query.readUInt16BE(4) === 1;
  const nameEnd = isQuery ? endOfName(query) : undefined;
  if (nameEnd === undefined || nameEnd + 4 > query.length) return undefined;
  const hasAddress = query.readUInt16BE(nameEnd) === recordTypes.a;
  const header = Buffer.alloc(headerBytes);
  query.copy(header, 0, 0, 2);
  // a response; recursion is desired as asked, and available
  header.writeUInt8(0x80 | (query.readUInt8(2) & 1), 2);
  header.writeUInt8(0x80, 3);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(hasAddress ? 1 : 0, 6);
  const question = query.subarray(headerBytes, nameEnd + 4);
  if (!hasAddress) return Buffer.concat([header, question]);
  // the name by a pointer to the question, type A, class IN, 60 s, 4 bytes
  const record = Buffer.from([0xc0, headerBytes, 0, recordTypes.a, 0, 1, 0, 0, 0, 60, 0, 4]);
  return Buffer.concat([header, question, record, Buffer.from(address.split(".").map(Number))]);
}

/** Where the question's name ends, past its closing zero. Undefined: it is cut off, or compressed. */
function endOfName(query: Buffer): number | undefined {
  for (let at = headerBytes; at < query.length; ) {
    const size = query.readUInt8(at);
    if (size === 0) return at + 1;
    if (size > 63) return undefined;
    at += 1 + size;
  }
  return undefined;
}
