/** The proxy as a process. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, request } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { testKey } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { sse } from "./metering-corpus.ts";
import { controlOnce, type Handler, sandboxId, sandboxKey, smallBody, tokenHash } from "./running-proxy.ts";

const mainPath = join(import.meta.dirname, "../../src/proxy/main.ts");

interface Setting {
  origin?: string;
  credential?: string | undefined;
  env?: Record<string, string>;
  argv?: string[];
  config?: string;
}

async function start(folder: string, setting: Setting = {}) {
  const { origin = "http://127.0.0.1:9", credential = testKey(), env = {}, argv = [] } = setting;
  await mkdir(join(folder, "secrets"), { recursive: true });
  if (!("credential" in setting) || setting.credential !== undefined) {
    await writeFile(join(folder, "secrets/ANTHROPIC_API_KEY"), credential);
  }
  const config = {
    upstreams: { anthropic: { origin } },
    doors: [{ at: join(folder, "listen.sock"), prefix: "" }],
    publicOrigin: "http://proxy.test",
    controlPath: join(folder, "control.sock"),
    dataFolder: folder,
    credentialsFolder: join(folder, "secrets"),
  };
  const child = spawn(process.execPath, [...argv, mainPath], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { MODAL_SB_PROXY_CONFIG: setting.config ?? JSON.stringify(config), ...env },
  });
  const exited = once(child, "exit") as Promise<[number | null, string | null]>;
  const output = Promise.all([text(child.stdout), text(child.stderr)]);
  return { child, exited, output, listenPath: join(folder, "listen.sock"), ...config };
}

async function untilListening(path: string): Promise<void> {
  for (;;) {
    const socket = connect(path);
    try {
      await once(socket, "connect");
      return;
    } catch {
      await delay(20);
    } finally {
      socket.destroy();
    }
  }
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal} ends it with code 0, also while an answer streams; it prints nothing`, async () => {
    await using folder = await temporaryFolder();
    const proxy = await start(folder.path);
    await untilListening(proxy.controlPath);
    const socket = connect(proxy.listenPath);
    await once(socket, "connect");
    proxy.child.kill(signal);
    assert.deepEqual(await proxy.exited, [0, null]);
    assert.deepEqual(await proxy.output, ["", ""]);
    socket.destroy();
  });
}

const bad: Record<string, [setting: Setting, words: RegExp]> = {
  "no credential": [{ credential: undefined }, /lacks ANTHROPIC_API_KEY/],
  "an empty credential": [{ credential: "\n" }, /ANTHROPIC_API_KEY is empty/],
  "a credential of two words": [{ credential: "sk-ant-one sk-ant-two" }, /more than one word/],
  "an origin over plain http": [{ origin: "http://api.example" }, /must be https/],
  "an origin that is none": [{ origin: "nonsense" }, /must be https/],
  "certificates that are not checked": [{ env: { NODE_TLS_REJECT_UNAUTHORIZED: "0" } }, /NODE_TLS_REJECT_UNAUTHORIZED/],
  "headers that are printed": [{ env: { NODE_DEBUG: "http" } }, /NODE_DEBUG/],
  "an open debugger": [{ argv: ["--inspect=127.0.0.1:0"] }, /--inspect/],
  "no configuration": [{ config: "{}" }, /MODAL_SB_PROXY_CONFIG lacks/],
};

for (const [name, [setting, words]] of Object.entries(bad)) {
  test(`it does not start with ${name}: code 2, and the reason without the credential`, async () => {
    await using folder = await temporaryFolder();
    const proxy = await start(folder.path, setting);
    assert.deepEqual(await proxy.exited, [2, null]);
    const [, stderr] = await proxy.output;
    assert.match(stderr, words);
    assert.ok(!stderr.includes("sk-ant-one"));
  });
}

test("socket files of a dead proxy are replaced", async () => {
  await using folder = await temporaryFolder();
  const first = await start(folder.path);
  await untilListening(first.controlPath);
  first.child.kill("SIGKILL");
  await first.exited;
  const second = await start(folder.path);
  await untilListening(second.controlPath);
  second.child.kill();
  assert.deepEqual(await second.exited, [0, null]);
});

test("it keeps serving after nonsense", async () => {
  await using folder = await temporaryFolder();
  const proxy = await start(folder.path);
  await untilListening(proxy.listenPath);
  const socket = connect(proxy.listenPath);
  socket.end("nonsense\r\n\r\n");
  await text(socket);
  await untilListening(proxy.listenPath);
  proxy.child.kill();
  assert.deepEqual(await proxy.exited, [0, null]);
});

/** A proxy as a process with an upstream that does what the test says, and a grant. */
async function serving(folder: string, handler: Handler) {
  const upstream = createServer(handler).listen(0, "127.0.0.1");
  await once(upstream, "listening");
  const origin = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  const proxy = await start(folder, { origin });
  await untilListening(proxy.controlPath);
  const control = (message: object) => controlOnce(proxy.controlPath, JSON.stringify({ id: 1, ...message }));
  const grant = { sandboxId, tokenHash, expiresAt: Date.now() + 3_600_000, upstreams: { anthropic: {} } };
  assert.equal((await control({ op: "grant", ...grant }))["ok"], true);
  const open = async () => {
    const options = { socketPath: proxy.listenPath, method: "POST", path: "/v1/messages" };
    const outgoing = request({ ...options, headers: { "x-api-key": sandboxKey } }).end(smallBody);
    const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
    return answer;
  };
  return {
    ...{ proxy, control, open },
    async [Symbol.asyncDispose]() {
      proxy.child.kill("SIGKILL");
      await proxy.exited;
      upstream.closeAllConnections();
      await new Promise((resolve) => upstream.close(resolve));
    },
  };
}

test("killed in the middle of a stream: what had passed by then is spent when it starts again", async () => {
  await using folder = await temporaryFolder();
  const words = { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "x".repeat(4000) } };
  const usage = { input_tokens: 1, output_tokens: 1 };
  const stream = sse({ type: "message_start", message: { model: "claude-opus-5", usage } }, words);
  {
    await using running = await serving(folder.path, (_incoming, response) =>
      response.writeHead(200, { "content-type": "text/event-stream" }).write(stream),
    );
    const answer = await running.open();
    answer.on("error", () => {}).resume();
    const ledger = new DatabaseSync(join(folder.path, "ledger.db"), { readOnly: true });
    const progress = ledger.prepare("SELECT runningOutputTokens AS outputTokens FROM accounts");
    while (progress.get()?.["outputTokens"] !== 1000) await delay(20);
    ledger.close();
  }
  await using again = await serving(folder.path, () => {});
  const { requests, inputTokens, outputTokens, usd } = await again.control({ op: "usage", account: sandboxId });
  const estimated = Math.ceil(smallBody.length / 3);
  assert.deepEqual([requests, inputTokens, outputTokens], [1, estimated, 1000]);
  assert.equal(usd, (estimated * 5 + 1000 * 25) / 1e6);
});

test("an answer of 1 GiB to a slow client passes in little memory", async () => {
  await using folder = await temporaryFolder();
  const gibibyte = 1024 ** 3;
  const piece = Buffer.alloc(1024 * 1024, "x");
  await using running = await serving(folder.path, async (_incoming, response) => {
    response.writeHead(200, { "content-type": "application/octet-stream" });
    for (let sent = 0; sent < gibibyte; sent += piece.length) {
      if (!response.write(piece)) await once(response, "drain");
    }
    response.end();
  });
  const resident = async () => Number((await running.control({ op: "status" }))["residentBytes"]);
  const before = await resident();
  let [bytes, most] = [0, 0];
  const answer = await running.open();
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    const step = Math.floor(bytes / (64 * piece.length));
    bytes += chunk.length;
    // a client that stops to think, sixteen times
    if (Math.floor(bytes / (64 * piece.length)) > step) most = Math.max(most, await resident());
  }
  assert.equal(bytes, gibibyte);
  const grown = (most - before) / 1024 / 1024;
  assert.ok(grown < 100, `${grown.toFixed(0)} MiB`);
});
