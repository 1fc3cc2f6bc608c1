/** The server name that a TLS client asks for, read before anything is answered (RFC 8446, 4.1.2; RFC 6066, 3). */
import type { Socket } from "node:net";

const handshakeRecord = 22;
const clientHelloMessage = 1;
const serverNameExtension = 0;
const maxRecordBytes = 16_384;
const maxHelloBytes = 65_536;
/** letters, digits, dots, hyphens, underscores: what can be in a host's name */
const hostName = /^[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?$/;

export type ClientHello = { serverName: string | undefined };

/**
 * Reads until the ClientHello is whole and puts back what it read. Rejects for everything that is not one, a name that
 * no host can have, a hello above 64 KiB, an early end, and after `timeoutMs`.
 */
export function readClientHello(socket: Socket, timeoutMs: number): Promise<ClientHello> {
  const { promise, resolve, reject } = Promise.withResolvers<ClientHello>();
  let received = Buffer.alloc(0);
  const fail = () => reject(new Error("no ClientHello came"));
  const read = () => {
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
      received = Buffer.concat([received, chunk]);
    }
    try {
      const hello = parseClientHello(received);
      if (hello) resolve(hello);
    } catch (error) {
      reject(error as Error);
    }
  };
  const timer = setTimeout(fail, timeoutMs);
  socket.on("readable", read);
  socket.on("end", fail);
  socket.on("close", fail);
  socket.on("error", fail);
  return promise.finally(() => {
    clearTimeout(timer);
    socket.off("readable", read).off("end", fail).off("close", fail).off("error", fail);
    if (received.length > 0 && !socket.readableEnded) socket.unshift(received);
  });
}

/** Undefined: more must come. Throws when this cannot become a ClientHello. What comes after it is not looked at. */
export function parseClientHello(bytes: Buffer): ClientHello | undefined {
  // a handshake message may be cut over records at any place
  let handshake = Buffer.alloc(0);
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] !== handshakeRecord || (bytes[at + 1] ?? 3) !== 3) throw new Error("not a TLS handshake");
    if (bytes.length < at + 5) return undefined;
    const size = bytes.readUInt16BE(at + 3);
    if (size === 0 || size > maxRecordBytes) throw new Error("a TLS record of an impossible size");
    handshake = Buffer.concat([handshake, bytes.subarray(at + 5, at + 5 + size)]);
    const message = wholeMessage(handshake);
    if (message) return { serverName: serverNameOf(new Cursor(message)) };
    at += 5 + size;
  }
  return undefined;
}

function wholeMessage(handshake: Buffer): Buffer | undefined {
  if (handshake.length > 0 && handshake[0] !== clientHelloMessage) throw new Error("not a ClientHello");
  if (handshake.length < 4) return undefined;
  const size = handshake.readUIntBE(1, 3);
  if (size > maxHelloBytes) throw new Error("the ClientHello is too big");
  return handshake.length < 4 + size ? undefined : handshake.subarray(4, 4 + size);
}

function serverNameOf(hello: Cursor): string | undefined {
  // version and random
  hello.take(34);
  // session id, cipher suites, compression methods
  hello.vector(1);
  hello.vector(2);
  hello.vector(1);
  if (hello.isEmpty()) return undefined;
  const extensions = hello.vector(2);
  while (!extensions.isEmpty()) {
    const type = extensions.number(2);
    const content = extensions.vector(2);
    if (type !== serverNameExtension) continue;
    const names = content.vector(2);
    if (names.number(1) !== 0) throw new Error("a server name of an unknown type");
    const name = names.vector(2).rest().toString("latin1").toLowerCase();
    if (!hostName.test(name)) throw new Error("a server name that no host can have");
    return name;
  }
  return undefined;
}

class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  isEmpty(): boolean {
    return this.#at >= this.#bytes.length;
  }

  take(size: number): Buffer {
    if (this.#at + size > this.#bytes.length) throw new Error("the ClientHello contradicts its own sizes");
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  number(size: number): number {
    return this.take(size).readUIntBE(0, size);
  }

  /** bytes that come after their length */
  vector(sizeOfLength: number): Cursor {
    return new Cursor(this.take(this.number(sizeOfLength)));
  }

  rest(): Buffer {
    return this.#bytes.subarray(this.#at);
  }
}
