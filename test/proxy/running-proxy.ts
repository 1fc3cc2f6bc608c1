/** A proxy in this process on unix sockets, with an upstream that does what the test says. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { Credentials } from "../../src/proxy/credentials.ts";
import type { Grant } from "../../src/proxy/grant.ts";
import { Prices } from "../../src/proxy/prices.ts";
import { type RunningProxy as Started, startProxy } from "../../src/proxy/proxy.ts";
import { defaultTimeouts, type Timeouts } from "../../src/proxy/timeouts.ts";
import { anthropicUpstream } from "../../src/proxy/upstreams/anthropic.ts";
import type { Upstream } from "../../src/proxy/upstreams/upstream.ts";
import { freePort } from "../helpers/free-port.ts";
import { testKey } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

export const sandboxId = "sb-0123456789abcdef";
export const token = "token-of-the-sandbox-0123456789";
export const sandboxKey = `${sandboxId}.${token}`;
export const tokenHash = createHash("sha256").update(token).digest("hex");

/** What the Messages API takes, with changes. */
export function messageBody(changes: object = {}): string {
  return JSON.stringify({
    model: "claude-opus-5",
    max_tokens: 100,
    messages: [{ role: "user", content: "hello" }],
    ...changes,
  });
}
export const smallBody = messageBody();

export interface RunningProxy extends AsyncDisposable {
  /** the real key */
  key: string;
  listenPath: string;
  /** the same door for clients that cannot take a unix socket */
  origin: string;
  /** a door for gh, which cannot put a prefix before its paths */
  githubApiPath: string;
  controlPath: string;
  dataFolder: string;
  proxy: Started;
  upstream: Server;
  /** requests that reached the upstream */
  arrived: IncomingMessage[];
  control(request: object): Promise<Record<string, unknown>>;
  audit(): Promise<Record<string, unknown>[]>;
  /** What the proxy tells from now on. */
  follow(): Promise<{ events: Record<string, unknown>[] }>;
  send(options: SendOptions): Promise<Answer>;
  /** The answer as it begins; its body is the caller's to read. */
  open(options: SendOptions): Promise<IncomingMessage>;
}

interface SendOptions {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string;
}

interface Answer {
  status: number | undefined;
  headers: IncomingMessage["headers"];
  body: string;
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export interface ProxySetting {
  handler?: Handler;
  /** undefined: one of its own */
  dataFolder?: string;
  credential?: "ANTHROPIC_API_KEY" | "ANTHROPIC_AUTH_TOKEN";
  key?: string;
  /** ms since 1970 */
  expiresAt?: number;
  /** of the grant; `null`: there is no grant */
  grant?: Partial<Grant> | null;
  /** beside the Claude API; they get the same key */
  upstreams?: (origin: string) => readonly Upstream[];
  /** of the upstream, when it is not the one made here */
  origin?: string;
  pingMs?: number;
  timeouts?: Partial<Timeouts>;
}

/** With a grant for `sandboxKey` in force. */
export async function runningProxy(setting: ProxySetting = {}): Promise<RunningProxy> {
  const { handler = (_request, response) => response.end("{}"), credential = "ANTHROPIC_API_KEY" } = setting;
  const undo = new AsyncDisposableStack();
  const folder = undo.use(await temporaryFolder()).path;
  const arrived: IncomingMessage[] = [];
  const upstream = createServer((incoming, response) => {
    arrived.push(incoming);
    handler(incoming, response);
  });
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  undo.defer(async () => {
    upstream.closeAllConnections();
    await new Promise((resolve) => upstream.close(resolve));
  });
  const { key = testKey() } = setting;
  for (const name of [credential, "GITHUB_TOKEN", "HF_TOKEN"]) await writeFile(join(folder, name), key);
  const listenPath = join(folder, "listen.sock");
  const githubApiPath = join(folder, "github-api.sock");
  const controlPath = join(folder, "control.sock");
  const { dataFolder = folder, origin = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}` } = setting;
  const prices = new Prices();
  const port = await freePort();
  const proxy = await startProxy({
    doors: [
      { at: listenPath, prefix: "" },
      { at: `127.0.0.1:${port}`, prefix: "" },
      { at: githubApiPath, prefix: "/api.github.com" },
    ],
    publicOrigin: `http://127.0.0.1:${port}`,
    controlPath,
    dataFolder,
    upstreams: [anthropicUpstream(origin, credential, prices), ...(setting.upstreams?.(origin) ?? [])],
    credentials: new Credentials(folder, [credential, "GITHUB_TOKEN", "HF_TOKEN"]),
    prices,
    pingMs: setting.pingMs ?? 0,
    timeouts: { ...defaultTimeouts, ...setting.timeouts },
  });
  undo.use(proxy);
  const control = (message: object) => controlOnce(controlPath, JSON.stringify(message));
  if (setting.grant !== null) {
    await control({
      id: 1,
      op: "grant",
      sandboxId,
      tokenHash,
      expiresAt: setting.expiresAt ?? Date.now() + 3_600_000,
      upstreams: { anthropic: {} },
      ...setting.grant,
    });
  }
  const open = ({ method = "POST", path = "/v1/messages", headers, body }: SendOptions) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = request({
        socketPath: listenPath,
        method,
        path,
        headers: headers ?? { "x-api-key": sandboxKey },
        agent: false,
      });
      outgoing.once("response", resolve);
      outgoing.once("error", reject);
      outgoing.end(body ?? (method === "POST" ? smallBody : undefined));
    });
  return {
    key,
    listenPath,
    origin: `http://127.0.0.1:${port}`,
    githubApiPath,
    controlPath,
    dataFolder,
    proxy,
    upstream,
    arrived,
    control,
    audit: async () =>
      (await readFile(join(dataFolder, "audit.ndjson"), "utf8"))
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    follow: async () => {
      const events: Record<string, unknown>[] = [];
      const socket = connect(controlPath);
      undo.defer(async () => void socket.destroy());
      const lines = createInterface({ input: socket });
      const following = once(lines, "line");
      socket.write('{"id":0,"op":"follow"}\n');
      await following;
      lines.on("line", (line) => events.push(JSON.parse(line)));
      return { events };
    },
    open,
    send: async (options) => {
      const answer = await open(options);
      return { status: answer.statusCode, headers: answer.headers, body: await text(answer) };
    },
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}

/** Sends one line to the control socket; its answer. */
export async function controlOnce(path: string, line: string): Promise<Record<string, unknown>> {
  const socket = connect(path);
  socket.on("error", () => {});
  socket.write(`${line}\n`);
  const [answer] = (await once(createInterface({ input: socket }), "line")) as [string];
  socket.destroy();
  return JSON.parse(answer);
}

/** Sends raw bytes; all that comes back until the proxy closes. */
export async function raw(path: string, bytes: string): Promise<string> {
  const socket = connect(path);
  socket.on("error", () => {});
  socket.write(bytes);
  return await text(socket);
}
