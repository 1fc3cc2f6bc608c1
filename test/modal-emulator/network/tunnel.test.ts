import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { connect, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import type { Network, SandboxNetwork } from "./network.ts";
import { curl, introduces, options, type Place, runInside, spawnInside, startTestNetwork } from "./world.ts";

interface Inside extends AsyncDisposable {
  /** the next line it prints; the first one says that it listens */
  line(): Promise<string>;
}

/** Runs a JavaScript program in the sandbox until disposal. */
async function programInside(place: Place, source: string): Promise<Inside> {
  const child = spawnInside(place, [process.execPath, "-e", source]);
  child.stderr?.pipe(process.stderr);
  const exit = once(child, "exit");
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  const line = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error("the program in the sandbox has ended");
    return value as string;
  };
  assert.equal(await line(), "ready");
  return {
    line,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exit;
    },
  };
}

function httpServer(answer: string): string {
  return `require("node:http").createServer((request, response) => { ${answer} }).listen(8080, "127.0.0.1", () => console.log("ready"));`;
}

function rawServer(serve: string): string {
  return `require("node:net").createServer({ allowHalfOpen: true }, (socket) => { socket.on("error", () => {}); ${serve} }).listen(8080, "127.0.0.1", () => console.log("ready"));`;
}

/** TLS from the host to a tunnel, half-open allowed. */
async function tlsFromHost(network: Network, host: string): Promise<TLSSocket> {
  const socket = connect({
    socket: await network.hostDial(host),
    servername: host,
    ca: readFileSync(network.caPath),
    ALPNProtocols: ["h2", "http/1.1"],
  });
  await once(socket, "secureConnect");
  assert.equal(socket.alpnProtocol, "http/1.1");
  return socket;
}

async function untilAllAreClosed(sandbox: SandboxNetwork): Promise<void> {
  while (sandbox.openTunnelConnections() > 0) await pause(5);
}

test("a tunnel is reached by who may reach its exact name, and no other customer's is", options, async () => {
  await using world = await startTestNetwork({});
  const { network } = world;
  await using ours = await network.open({ kind: "allowlist", domains: [], cidrs: [] });
  await using theirs = await network.open({ kind: "open" });
  const tunnel = await ours.tunnel(8080);
  const strange = await theirs.tunnel(8080);
  assert.match(tunnel.host, /^ta-[a-z0-9]+-8080-[a-z0-9]+\.w\.modal\.host$/);
  assert.notEqual(tunnel.host, strange.host);
  assert.deepEqual(await ours.tunnel(8080), tunnel);
  // both serve the same port
  await using _ours = await programInside({ network, sandbox: ours }, httpServer(`response.end("ours")`));
  await using _theirs = await programInside({ network, sandbox: theirs }, httpServer(`response.end("theirs")`));
  await using agent = await network.open({ kind: "allowlist", domains: [tunnel.host], cidrs: [] });
  await using anyTunnel = await network.open({ kind: "allowlist", domains: ["*.modal.host"], cidrs: [] });
  const place = { network, sandbox: agent };
  assert.equal((await curl(place, `https://${tunnel.host}/`)).stdout, "ours");
  for (const arguments_ of [
    [`https://${strange.host}/`],
    // the right address and Host header, and the wrong server name
    [
      "-H",
      `Host: ${tunnel.host}`,
      "--connect-to",
      `${strange.host}:443:${tunnel.host}:443`,
      `https://${strange.host}/`,
    ],
  ]) {
    const { status, stderr } = await curl(place, ...arguments_);
    assert.equal(status, 35);
    assert.match(stderr, /reset by peer/);
  }
  const exfiltration = await curl({ network, sandbox: anyTunnel }, `https://${strange.host}/`);
  assert.equal(exfiltration.stdout, "theirs", "a wildcard opens every customer's tunnel, as on Modal");
});

test("the host reaches a tunnel, until its sandbox ends", options, async () => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi") });
  const { network } = world;
  await assert.rejects(network.hostDial("nowhere.example"), /no host nowhere.example/);
  const sandbox = await network.open({ kind: "open" });
  const { host } = await sandbox.tunnel(8080);
  await using _server = await programInside({ network, sandbox }, rawServer(`socket.write("hello");`));
  const socket = await tlsFromHost(network, host);
  assert.equal(String((await once(socket, "data"))[0]), "hello");
  assert.equal(sandbox.openTunnelConnections(), 1);
  const end = once(socket, "end");
  await sandbox[Symbol.asyncDispose]();
  await end;
  socket.destroy();
  assert.equal(sandbox.openTunnelConnections(), 0);
  await assert.rejects(network.hostDial(host), /no host/);
});

test("programs on the host reach the emulated internet through the proxy for them", options, async () => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi") });
  const { network } = world;
  await using sandbox = await network.open({ kind: "blocked" });
  await using server = await network.open({ kind: "allowlist", domains: [], cidrs: [] });
  const { host } = await server.tunnel(8080);
  await using _server = await programInside({ network, sandbox: server }, httpServer(`response.end("inside")`));
  const program = `
    const { get } = require("node:https");
    const text = (url) => fetch(url).then((response) => response.text(), (error) => "none: " + error.message);
    Promise.all(["https://${host}/", "https://pypi.org/", "https://nowhere.example/"].map(text)).then((answers) => {
      get("https://${host}/", (response) => {
        response.setEncoding("utf8").on("data", (data) => console.log(JSON.stringify([...answers, data])));
      });
    });`;
  const { stdout } = await promisify(execFile)(process.execPath, ["-e", program], {
    env: { NODE_USE_ENV_PROXY: "1", HTTPS_PROXY: network.hostProxyUrl, NODE_EXTRA_CA_CERTS: network.caPath },
  });
  const answers = ["inside", "pypi was asked for pypi.org", "none: fetch failed", "inside"];
  assert.deepEqual(JSON.parse(stdout), answers);
  assert.notEqual((await curl({ network, sandbox }, "-x", network.hostProxyUrl, "https://pypi.org/")).status, 0);
});

test("a stream of events arrives event by event, and is counted while it is open", options, async () => {
  await using world = await startTestNetwork({});
  const { network } = world;
  await using server = await network.open({ kind: "open" });
  await using agent = await network.open({ kind: "open" });
  const { host } = await server.tunnel(8080);
  // every event after the first one needs a request for it: a buffer anywhere would stop the stream
  await using _program = await programInside(
    { network, sandbox: server },
    httpServer(`
      if (request.url === "/next") { stream.write("data: next\\n\\n"); response.end(); return; }
      globalThis.stream = response;
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: first\\n\\n");`),
  );
  const place = { network, sandbox: agent };
  const client = spawnInside(place, ["curl", "-sSN", `https://${host}/`]);
  const events = createInterface({ input: client.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  assert.equal((await events.next()).value, "data: first");
  assert.equal(server.openTunnelConnections(), 1);
  for (let count = 0; count < 3; count += 1) {
    assert.equal((await curl(place, `https://${host}/next`)).status, 0);
    assert.equal((await events.next()).value, "");
    assert.equal((await events.next()).value, "data: next");
  }
  client.kill("SIGKILL");
  await once(client, "exit");
  await untilAllAreClosed(server);
});

test("50 MB go each way unchanged", options, async () => {
  await using world = await startTestNetwork({});
  const { network } = world;
  await using server = await network.open({ kind: "open" });
  await using agent = await network.open({ kind: "open" });
  const { host } = await server.tunnel(8080);
  await using _program = await programInside(
    { network, sandbox: server },
    httpServer(`
      const hash = require("node:crypto").createHash("sha256");
      if (request.method === "GET") require("node:fs").createReadStream("/dev/zero", { end: 50e6 - 1 }).pipe(response);
      else request.pipe(hash).on("finish", () => response.end(hash.digest("hex")));`),
  );
  const shell = (script: string) => runInside({ network, sandbox: agent }, ["sh", "-c", script]);
  const zeros = createHash("sha256").update(Buffer.alloc(50e6)).digest("hex");
  const up = await shell(`head -c 50000000 /dev/zero | curl -sS -T - https://${host}/`);
  assert.equal(up.stdout, zeros, up.stderr);
  const down = await shell(`curl -sS https://${host}/ | sha256sum`);
  assert.equal(down.stdout.split(" ")[0], zeros, down.stderr);
});

test("a client that does not read stops the server: nothing is piled up between them", options, async () => {
  await using world = await startTestNetwork({});
  const { network } = world;
  await using sandbox = await network.open({ kind: "open" });
  const { host } = await sandbox.tunnel(8080);
  const total = 400e6;
  await using program = await programInside(
    { network, sandbox },
    rawServer(`
      let sent = 0;
      const chunk = Buffer.alloc(1e6);
      const write = () => {
        if (sent < ${total}) socket.write(chunk, () => { sent += chunk.length; write(); });
      };
      write();
      let before = -1, same = 0;
      const timer = setInterval(() => {
        same = sent === before ? same + 1 : 0;
        before = sent;
        if (same < 20 && sent < ${total}) return;
        clearInterval(timer);
        console.log(sent);
      }, 25);`),
  );
  const socket = await tlsFromHost(network, host);
  const sent = Number(await program.line());
  assert.ok(sent < total / 4, `${sent} bytes left the server and none were read`);
  let received = 0;
  for await (const chunk of socket) {
    received += (chunk as Buffer).length;
    if (received >= total) break;
  }
  assert.equal(received, total);
});

test("of many connections at once every one reaches its own sandbox", options, async () => {
  await using world = await startTestNetwork({});
  const { network } = world;
  await using programs = new AsyncDisposableStack();
  const names = ["a", "b", "c", "d", "e"];
  const hosts = await Promise.all(
    names.map(async (name) => {
      const sandbox = await network.open({ kind: "open" });
      programs.use(await programInside({ network, sandbox }, rawServer(`socket.end("${name}");`)));
      return { name, host: (await sandbox.tunnel(8080)).host, dead: (await sandbox.tunnel(9090)).host };
    }),
  );
  const reached = async ({ name, host, dead }: (typeof hosts)[number]) => {
    const live = await tlsFromHost(network, host);
    const refused = await tlsFromHost(network, dead);
    const answers = await Promise.all([text(live), text(refused)]);
    live.destroy();
    refused.destroy();
    assert.deepEqual(answers, [name, ""]);
  };
  await Promise.all(Array.from({ length: 30 }, () => hosts.map(reached)).flat());
});

test("each direction ends by itself", options, async () => {
  await using world = await startTestNetwork({});
  const { network } = world;
  await using sandbox = await network.open({ kind: "open" });
  const { host } = await sandbox.tunnel(8080);
  await using program = await programInside(
    { network, sandbox },
    rawServer(`
      let received = "";
      socket.on("data", (data) => {
        received += data;
        if (received === "end first") socket.end("ended");
      });
      socket.on("end", () => { console.log("received " + received); socket.end("all of " + received); });`),
  );
  const clientFirst = await tlsFromHost(network, host);
  clientFirst.end("request");
  assert.equal(await text(clientFirst), "all of request");
  assert.equal(await program.line(), "received request");
  const serverFirst = await tlsFromHost(network, host);
  serverFirst.write("end first");
  assert.equal(await text(serverFirst), "ended");
  serverFirst.end(", client last");
  assert.equal(await program.line(), "received end first, client last");
  await untilAllAreClosed(sandbox);
});

test("an abort on one side is an abort on the other", options, async () => {
  await using world = await startTestNetwork({});
  const { network } = world;
  await using sandbox = await network.open({ kind: "open" });
  const { host } = await sandbox.tunnel(8080);
  await using program = await programInside(
    { network, sandbox },
    httpServer(`
      response.on("close", () => console.log(request.url + " " + response.writableFinished));
      response.write("half");
      if (request.url === "/abort") request.socket.resetAndDestroy();`),
  );
  const place = { network, sandbox };
  const aborted = await curl(place, `https://${host}/abort`);
  assert.notEqual(aborted.status, 0);
  assert.equal(await program.line(), "/abort false");
  const socket = await tlsFromHost(network, host);
  socket.write("GET /open HTTP/1.1\r\nhost: x\r\n\r\n");
  await once(socket, "data");
  socket.destroy();
  assert.equal(await program.line(), "/open false");
  await untilAllAreClosed(sandbox);
});

test("a tunnel fails as it is told to, and then no more", options, async () => {
  await using world = await startTestNetwork({});
  const { network } = world;
  await using sandbox = await network.open({ kind: "open" });
  const { host } = await sandbox.tunnel(8080);
  const place = { network, sandbox };
  const status = async () => {
    const { status, stdout } = await curl(place, "-o", "/dev/null", "-w", "%{http_code}", `https://${host}/`);
    return status === 0 ? stdout : `curl ${status}`;
  };
  // nothing listens inside
  assert.match(await status(), /^curl (52|56)$/);
  await using _program = await programInside(place, httpServer("response.end()"));
  sandbox.setTunnelFault({ notReady: 1 });
  assert.equal(await status(), "curl 35");
  sandbox.setTunnelFault({ answer502: 2 });
  assert.deepEqual([await status(), await status(), await status()], ["502", "502", "200"]);
  sandbox.setTunnelFault({ notReady: 1 });
  sandbox.setTunnelFault({});
  assert.equal(await status(), "200");
});

test("a server that does not accept holds up no other tunnel", options, async () => {
  await using world = await startTestNetwork({});
  const { network } = world;
  await using hostile = await network.open({ kind: "open" });
  await using sandbox = await network.open({ kind: "open" });
  const { host } = await hostile.tunnel(8080);
  const tunnel = await sandbox.tunnel(8080);
  const stuck = spawnInside({ network, sandbox: hostile }, [
    ...["python3", "-c"],
    "import socket, time; s = socket.create_server(('127.0.0.1', 8080), backlog=0); print('ready', flush=True); time.sleep(999)",
  ]);
  await once(stuck.stdout as NodeJS.ReadableStream, "data");
  await using _program = await programInside({ network, sandbox }, httpServer(`response.end("fine")`));
  const sockets: Socket[] = [];
  for (let count = 0; count < 5; count += 1) sockets.push(await tlsFromHost(network, host));
  assert.equal((await curl({ network, sandbox }, `https://${tunnel.host}/`)).stdout, "fine");
  for (const socket of sockets) socket.destroy();
  stuck.kill("SIGKILL");
  await once(stuck, "exit");
});
