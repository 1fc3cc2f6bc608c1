/** A proxy in this process on unix sockets, with an upstream that does what the test says. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { readAnthropicCredential } from "../../src/proxy/credentials.ts";
import { startProxy } from "../../src/proxy/proxy.ts";
import { anthropicUpstream } from "../../src/proxy/upstream.ts";
import { testKey } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

export const sandboxId = "sb-0123456789abcdef";
export const token = "token-of-the-sandbox-0123456789";
export const sandboxKey = `${sandboxId}.${token}`;

export interface RunningProxy extends AsyncDisposable {
  /** the real key */
  key: string;
  listenPath: string;
  controlPath: string;
  upstream: Server;
  /** requests that reached the upstream */
  arrived: IncomingMessage[];
  control(request: object): Promise<Record<string, unknown>>;
  audit(): Promise<Record<string, unknown>[]>;
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

interface ProxySetting {
  handler?: Handler;
  auditPath?: string;
  credential?: "ANTHROPIC_API_KEY" | "ANTHROPIC_AUTH_TOKEN";
  key?: string;
  /** ms since 1970 */
  expiresAt?: number;
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
  await writeFile(join(folder, credential), key);
  const listenPath = join(folder, "listen.sock");
  const controlPath = join(folder, "control.sock");
  const auditPath = setting.auditPath ?? join(folder, "audit.ndjson");
  const origin = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  undo.use(
    await startProxy({
      listenPath,
      controlPath,
      auditPath,
      upstream: anthropicUpstream(origin, readAnthropicCredential(folder)),
    }),
  );
  const control = (message: object) => controlOnce(controlPath, JSON.stringify(message));
  await control({
    id: 1,
    op: "grant",
    sandboxId,
    tokenHash: createHash("sha256").update(token).digest("hex"),
    expiresAt: setting.expiresAt ?? Date.now() + 60_000,
    upstreams: ["anthropic"],
  });
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
      outgoing.end(body ?? (method === "POST" ? "{}" : undefined));
    });
  return {
    key,
    listenPath,
    controlPath,
    upstream,
    arrived,
    control,
    audit: async () =>
      (await readFile(auditPath, "utf8"))
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
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
