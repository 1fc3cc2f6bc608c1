import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { connect as connectTls } from "node:tls";
import { parseClientHello, readClientHello } from "./client-hello.ts";

/** The first bytes of a real TLS client, as one record. */
async function realHello(servername: string, options: object = {}): Promise<Buffer> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connectTls({ port: (server.address() as AddressInfo).port, servername, ...options });
  client.on("error", () => {});
  const [socket] = (await once(server, "connection")) as [Socket];
  let hello = Buffer.alloc(0);
  for await (const chunk of socket) {
    hello = Buffer.concat([hello, chunk as Buffer]);
    if (hello.length >= 5 + hello.readUInt16BE(3)) break;
  }
  client.destroy();
  server.close();
  return hello;
}

/** The same handshake message in records of so many bytes. */
function fragmented(hello: Buffer, size: number): Buffer {
  const records: Buffer[] = [];
  for (let at = 5; at < hello.length; at += size) {
    const part = hello.subarray(at, at + size);
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 0xff]), part);
  }
  return Buffer.concat(records);
}

test("the name of a real client is read, in lower case, and a missing one is undefined", async () => {
  assert.deepEqual(parseClientHello(await realHello("API.Example.com")), { serverName: "api.example.com" });
  const old = await realHello("old.example", { maxVersion: "TLSv1.2", ALPNProtocols: ["h2", "http/1.1"] });
  assert.deepEqual(parseClientHello(old), { serverName: "old.example" });
  assert.deepEqual(parseClientHello(await realHello("")), { serverName: undefined });
});

test("every beginning of a hello is unfinished, however it is cut into records", async () => {
  const whole = await realHello("api.example.com");
  for (const hello of [whole, fragmented(whole, 1), fragmented(whole, 7), fragmented(whole, 100)]) {
    for (let size = 0; size < hello.length; size += 1) {
      assert.equal(parseClientHello(hello.subarray(0, size)), undefined, `${size} bytes`);
    }
    assert.deepEqual(parseClientHello(hello), { serverName: "api.example.com" });
  }
});

test("a changed byte gives a name of a host, nothing, or an error, and never anything else", async () => {
  const hello = await realHello("api.example.com");
  for (let at = 0; at < hello.length; at += 1) {
    for (const value of [0, 1, 0x2f, 0x7f, 0xff]) {
      const changed = Buffer.from(hello);
      changed[at] = value;
      try {
        const name = parseClientHello(changed)?.serverName;
        if (name !== undefined) assert.match(name, /^[a-z0-9_.-]+$/);
      } catch (error) {
        assert.match((error as Error).message, /ClientHello|TLS|server name/);
      }
    }
  }
});

test("what is no TLS is refused at its first bytes", () => {
  for (const start of ["GET / HTTP/1.1\r\n", "SSH-2.0-x", "\x16\x02", "\x16\x03\x01\x00\x00", "\x16\x03\x01\xff\xff"]) {
    assert.throws(() => parseClientHello(Buffer.from(start, "latin1")), start);
  }
});

test("reading fails at an early end, a late hello and an endless one, and puts back what it read", async (context) => {
  const hello = await realHello("api.example.com");
  const server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  context.after(() => server.close());
  await once(server, "listening");
  const read = async (timeoutMs: number, write: (client: Socket) => void) => {
    const client = connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true });
    client.on("error", () => {});
    const [socket] = (await once(server, "connection")) as [Socket];
    write(client);
    try {
      return { socket, hello: await readClientHello(socket, timeoutMs) };
    } catch (error) {
      socket.destroy();
      return { error: String(error) };
    } finally {
      client.destroy();
    }
  };
  assert.match((await read(60_000, (client) => client.end(hello.subarray(0, 50)))).error ?? "", /no ClientHello/);
  assert.match((await read(20, (client) => client.write(hello.subarray(0, 50)))).error ?? "", /no ClientHello/);
  const endless = fragmented(Buffer.concat([Buffer.from([0, 0, 0, 0, 0, 1, 2, 0, 0]), Buffer.alloc(200_000)]), 10_000);
  assert.match((await read(60_000, (client) => client.write(endless))).error ?? "", /too big/);
  const good = await read(60_000, (client) => client.end(Buffer.concat([hello, Buffer.from("more")])));
  assert.deepEqual(good.hello, { serverName: "api.example.com" });
  const rest: Buffer[] = [];
  for await (const chunk of good.socket ?? []) rest.push(chunk as Buffer);
  assert.deepEqual(Buffer.concat(rest), Buffer.concat([hello, Buffer.from("more")]));
});
