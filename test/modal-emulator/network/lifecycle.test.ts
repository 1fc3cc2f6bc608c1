import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { processes, untilNone } from "../../helpers/processes.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { startNetwork } from "./network.ts";
import { curl, introduces, options, runInside, startTestNetwork } from "./world.ts";

function processesWith(pid: number | undefined) {
  return async () => (await processes()).filter((process) => process.pid === pid);
}

test("a sandbox reaches no server of the host, by TCP or by an abstract socket", options, async () => {
  await using world = await startTestNetwork({});
  await using sandbox = await world.network.open({ kind: "open" });
  const place = { network: world.network, sandbox };
  const server = createServer((socket) => socket.end("host")).listen(0, "0.0.0.0");
  await once(server, "listening");
  const abstract = createServer((socket) => socket.end("host")).listen(`\0modal-sb-test-${process.pid}`);
  await once(abstract, "listening");
  const { port } = server.address() as AddressInfo;
  const reach = `
    const net = require("node:net");
    const outcome = (target) => new Promise((resolve) => {
      net.connect(target).on("error", (error) => resolve(error.code)).on("data", (data) => resolve(String(data)));
    });
    Promise.all([outcome({ port: ${port}, host: "127.0.0.1" }), outcome({ path: "\\0modal-sb-test-${process.pid}" })])
      .then((outcomes) => console.log(outcomes.join()));`;
  assert.equal((await runInside(place, [process.execPath, "-e", reach])).stdout, "ECONNREFUSED,ECONNREFUSED\n");
  const onHost = spawn(process.execPath, ["-e", reach]);
  const [line] = (await once(onHost.stdout.setEncoding("utf8"), "data")) as [string];
  assert.equal(line, "host,host\n", "the same program on the host");
  server.close();
  abstract.close();
});

test("disposal leaves no namespace, no process and no file", options, async () => {
  await using folder = await temporaryFolder();
  const network = await startNetwork({ folder: folder.path, world: {} });
  const [one, two, blocked] = await Promise.all([
    network.open({ kind: "open" }),
    network.open({ kind: "open" }),
    network.open({ kind: "blocked" }),
  ]);
  assert.ok(existsSync(one.namespacePath));
  assert.equal((await processesWith(network.helperPid)()).length, 1);
  await one[Symbol.asyncDispose]();
  assert.ok(!existsSync(one.namespacePath));
  await one[Symbol.asyncDispose]();
  await network[Symbol.asyncDispose]();
  assert.ok(!existsSync(two.namespacePath) && !existsSync(blocked.namespacePath));
  assert.deepEqual(await processesWith(network.helperPid)(), []);
  assert.deepEqual(readdirSync(folder.path), ["certificates"]);
});

test("after kill -9 the helper ends itself, and the next start sweeps the namespaces", options, async () => {
  await using folder = await temporaryFolder();
  const program = `
    import { startNetwork } from ${JSON.stringify(fileURLToPath(new URL("network.ts", import.meta.url)))};
    const network = await startNetwork({ folder: ${JSON.stringify(folder.path)}, world: {} });
    const { namespacePath } = await network.open({ kind: "open" });
    console.log(JSON.stringify({ namespacePath, helperPid: network.helperPid }));`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  const { namespacePath, helperPid } = JSON.parse(line) as { namespacePath: string; helperPid: number };
  assert.equal((await processesWith(helperPid)()).length, 1);
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.deepEqual(await untilNone(processesWith(helperPid)), []);
  assert.ok(existsSync(namespacePath));
  await using world = await startTestNetwork({});
  await using alive = await world.network.open({ kind: "open" });
  assert.ok(!existsSync(namespacePath));
  await using _another = await startTestNetwork({});
  assert.ok(existsSync(alive.namespacePath), "those of a living process stay");
});

test("sixty sandboxes need one helper of less than 45 MiB", options, async () => {
  await using world = await startTestNetwork({ "pypi.org": introduces("pypi") });
  const { network } = world;
  const sandboxes = await Promise.all(Array.from({ length: 60 }, () => network.open({ kind: "open" })));
  const last = sandboxes.at(-1);
  assert.ok(last);
  assert.equal((await curl({ network, sandbox: last }, "https://pypi.org/")).stdout, "pypi was asked for pypi.org");
  const [helper] = await processesWith(network.helperPid)();
  assert.ok(helper && helper.residentMiB < 45, `${helper?.residentMiB} MiB`);
});
