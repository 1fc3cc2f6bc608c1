import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { type Emulator, startEmulator, whyNot } from "./emulator.ts";
import { type Connection, connect, output, printed } from "./sdk-client.ts";

const reason = await whyNot();
const server = `
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from inside")
http.server.HTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
`;

describe("network of the emulator's sandboxes", { skip: reason ?? false }, () => {
  let emulator: Emulator;
  let modal: Connection;
  const site = createServer((_, response) => response.end("from the world"));
  before(async () => {
    site.listen(0, "127.0.0.1");
    await once(site, "listening");
    const address = `127.0.0.1:${(site.address() as AddressInfo).port}`;
    emulator = await startEmulator({ world: { "api.example.com": address, "other.example.org": address } });
    modal = await connect(emulator);
  });
  after(async () => {
    modal.client.close();
    await emulator[Symbol.asyncDispose]();
    site.close();
  });

  for (const [backend, kind] of [
    ["V1", { gpu: "T4" }],
    ["V2", {}],
  ] as const) {
    test(`${backend}: a tunnel leads to a port inside, when it is ready`, async () => {
      const { Probe } = await import("modal");
      const serving = await modal.create({
        ...kind,
        command: ["/usr/bin/python3", "-c", server],
        encryptedPorts: [8080],
        readinessProbe: Probe.withTcp(8080),
      });
      await serving.waitUntilReady(180_000);
      const tunnel = (await serving.tunnels())[8080];
      assert.match(tunnel?.url ?? "", /^https:\/\/[\w.-]+\.w\.modal\.host$/);
      const caller = await modal.create({ ...kind, outboundDomainAllowlist: [tunnel?.host ?? ""] });
      assert.equal(await printed(caller, "curl", "-sS", tunnel?.url ?? ""), "from inside");
      assert.notEqual((await output(caller, "curl", "-sS", "https://api.example.com")).code, 0);
      const again = await modal.client.sandboxes.fromId(serving.sandboxId);
      assert.equal((await again.tunnels())[8080]?.url, tunnel?.url);
    });

    test(`${backend}: domains, and nothing at all`, async () => {
      const some = await modal.create({ ...kind, outboundDomainAllowlist: ["*.example.com"] });
      assert.equal(await printed(some, "curl", "-sS", "https://api.example.com"), "from the world");
      assert.notEqual((await output(some, "curl", "-sS", "https://other.example.org")).code, 0);
      const open = await modal.create(kind);
      assert.equal(await printed(open, "curl", "-sS", "https://other.example.org"), "from the world");
      const blocked = await modal.create({ ...kind, blockNetwork: true });
      assert.notEqual((await output(blocked, "curl", "-sS", "https://api.example.com")).code, 0);
      const domains = emulator.sandboxes().find(({ id }) => id === some.sandboxId)?.domains;
      assert.deepEqual(domains, ["*.example.com"]);
    });
  }

  test("an exec probe; no probe", async () => {
    const { Probe } = await import("modal");
    const sandbox = await modal.create({
      command: ["sh", "-c", "read line; touch /ready; exec sleep 1000"],
      readinessProbe: Probe.withExec(["test", "-e", "/ready"]),
    });
    await assert.rejects(sandbox.waitUntilReady(300));
    await sandbox.stdin.writeText("go\n");
    await sandbox.waitUntilReady(180_000);
    const without = await modal.create();
    await assert.rejects(without.waitUntilReady(1000), /no readiness probe/);
  });

  test("the host reaches a tunnel by its own dial", async () => {
    const serving = await modal.create({ command: ["/usr/bin/python3", "-c", server], encryptedPorts: [8080] });
    const host = (await serving.tunnels())[8080]?.host ?? "";
    let answer = "";
    while (!answer.includes("from inside")) {
      const socket = await emulator.network.hostDial(host);
      const tls = connectTls({ socket, servername: host, ca: readFileSync(emulator.network.caPath) });
      tls.on("error", () => {});
      tls.end(`GET / HTTP/1.0\r\nHost: ${host}\r\n\r\n`);
      tls.on("data", (data) => (answer += data));
      await once(tls, "close");
    }
  });
});

describe("idleness and tunnels", { skip: reason ?? false }, () => {
  test("an open connection through a tunnel keeps a sandbox, its end lets it go", async (context) => {
    context.mock.timers.enable({ apis: ["Date"], now: Date.now() });
    await using emulator = await startEmulator();
    const modal = await connect(emulator);
    const listen =
      "import socket, time; s = socket.create_server(('127.0.0.1', 9000)); c = s.accept()[0]; c.recv(1); c.close(); time.sleep(1000)";
    const { Probe } = await import("modal");
    const readinessProbe = Probe.withExec(["grep", "-q", ":2328", "/proc/net/tcp"]);
    const options = { command: ["/usr/bin/python3", "-c", listen], encryptedPorts: [9000] };
    const sandbox = await modal.create({ ...options, readinessProbe, idleTimeoutMs: 600_000 });
    const host = (await sandbox.tunnels())[9000]?.host ?? "";
    await sandbox.waitUntilReady(180_000);
    const socket = await emulator.network.hostDial(host);
    const tls = connectTls({ socket, servername: host, ca: readFileSync(emulator.network.caPath) });
    tls.on("error", () => {});
    await once(tls, "secureConnect");
    const idle = await modal.create({ idleTimeoutMs: 600_000 });
    context.mock.timers.tick(700_000);
    await idle.wait();
    assert.equal(await sandbox.poll(), null);
    tls.destroy();
    // one step of time is not enough when it comes before the emulator has seen the connection close
    const clock = setInterval(() => context.mock.timers.tick(700_000), 500);
    try {
      assert.equal(await sandbox.wait(), 137);
    } finally {
      clearInterval(clock);
    }
    assert.equal(emulator.sandboxes()[0]?.result?.status, 7);
    modal.client.close();
  });
});

describe("faults of tunnels", { skip: reason ?? false }, () => {
  test("502 for a while, and not ready for a while", async () => {
    await using emulator = await startEmulator({ faults: { tunnelNotReady: 1, tunnel502: 2 } });
    const modal = await connect(emulator);
    const serving = await modal.create({ command: ["/usr/bin/python3", "-c", server], encryptedPorts: [8080] });
    const url = (await serving.tunnels())[8080]?.url ?? "";
    const caller = await modal.create();
    const ask = `curl -s -o /dev/null -w '%{http_code}\\n' ${url}`;
    const codes = await printed(
      caller,
      "bash",
      "-c",
      `while code=$(${ask}); echo $code; test $code != 200; do :; done`,
    );
    // after the faults the server may still be starting
    assert.match(codes, /^000\n502\n502\n(000\n)*200\n$/);
    modal.client.close();
  });
});
