/**
 * Attacks as raw bytes, by family: what a well-behaved client would never send. `refused`: an answer of 4xx, or none, and
 * nothing reaches the upstream. `served`: the upstream sees one plain request, and nothing of what was smuggled in.
 */
import { messageBody, sandboxId, sandboxKey, token } from "./running-proxy.ts";

export interface Attack {
  name: string;
  bytes: string | Buffer;
  outcome: "refused" | "served";
}

const body = messageBody();
const key = `x-api-key: ${sandboxKey}`;
const length = `content-length: ${Buffer.byteLength(body)}`;
const foreignKey = "sk-ant-attacker-0123456789abcdef";

interface Shape {
  line?: string;
  headers?: string[];
  body?: string;
}

/** A request that would be served, with changes; it asks for the connection to be closed. */
function request({
  line = "POST /v1/messages HTTP/1.1",
  headers = ["host: x", key, length],
  body: content = body,
}: Shape): string {
  return [line, ...headers, "connection: close", "", content].join("\r\n");
}

const refused = (name: string, bytes: string | Buffer): Attack => ({ name, bytes, outcome: "refused" });
const served = (name: string, bytes: string | Buffer): Attack => ({ name, bytes, outcome: "served" });
const withHeaders = (...headers: string[]) => request({ headers: ["host: x", key, length, ...headers] });
const withPath = (path: string) => request({ line: `POST ${path} HTTP/1.1` });
const withKey = (...headers: string[]) => request({ headers: ["host: x", length, ...headers] });
const chunked = (chunks: string, ...headers: string[]) =>
  request({ headers: ["host: x", key, "transfer-encoding: chunked", ...headers], body: chunks });
const oneChunk = `${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n`;
const smuggled = `POST /v1/files HTTP/1.1\r\nhost: x\r\n${key}\r\n${length}\r\n\r\n${body}`;

const destination: Attack[] = [
  served("another host", request({ headers: ["host: evil.example", key, length] })),
  served("a host with a user", request({ headers: ["host: api.anthropic.com@evil.example", key, length] })),
  refused("two hosts", request({ headers: ["host: x", "host: evil.example", key, length] })),
  refused("no host", request({ headers: [key, length] })),
  refused("an absolute target", withPath("http://evil.example/v1/messages")),
  refused("an absolute target of the API's own", withPath("https://api.anthropic.com/v1/messages")),
  refused("CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example\r\n\r\n"),
  refused("OPTIONS *", request({ line: "OPTIONS * HTTP/1.1" })),
  served(
    "headers that name another host, path or method",
    withHeaders(
      "x-forwarded-host: evil.example",
      "x-forwarded-proto: http",
      "forwarded: host=evil.example",
      "x-original-url: /v1/files",
      "x-rewrite-url: /v1/files",
      "x-http-method-override: DELETE",
      "via: 1.1 evil",
      "max-forwards: 0",
    ),
  ),
  served("a workspace of the client's choice", withHeaders("anthropic-organization-id: x", "anthropic-workspace: y")),
];

const paths: Attack[] = [
  "/v1/messages/../files",
  "/v1/./messages",
  "/v1/%2e%2e/v1/messages",
  "/v1/%6dessages",
  "//v1/messages",
  "/v1//messages",
  "/v1/messages/",
  "/v1/messages;x",
  "/v1\\messages",
  "/v1%2fmessages",
  "/v1%5cmessages",
  "/v1/messages%00",
  "/v1/messages%0d%0a",
  "/v1/messages%20",
  "/v1/%u002fmessages",
  "/v1/messages%c0%af",
  "/V1/messages",
  "/v1/Messages",
  "/v1/messages#x",
  "/v1/messages?beta=true#x",
  "/v1/messages?api_key=x",
  "/v1/messages?beta=true&x-api-key=x",
  "/v1/messages?beta=true%26x=1",
  "/v1/messages?",
  "v1/messages",
  "/v1/files",
  "/v1/messages/batches",
  "/v1/complete",
  "/v1/organizations/me/usage",
  "/v1/skills",
  "/v1/environments",
  "/api/oauth/profile",
  "/github.com/../v1/messages",
  "/github.com/acme/thesis/info/refs?service=git-upload-pack",
  "/api.github.com/user",
  "/huggingface.co/api/whoami-v2",
  "/github.community/acme",
  "/healthz",
  "/metrics",
  "/admin/grants",
  "/control",
]
  .filter((path) => path !== "/v1/messages?")
  .map((path) => refused(`the path ${path}`, withPath(path)));

const methods: Attack[] = [
  "GET",
  "HEAD",
  "PUT",
  "PATCH",
  "DELETE",
  "OPTIONS",
  "TRACE",
  "PRI",
  "post",
  "Post",
  "POST\t",
  "XYZ",
].map((method) =>
  refused(
    `the method ${JSON.stringify(method)}`,
    request({ line: `${method} /v1/messages HTTP/1.1`, headers: ["host: x", key, "content-length: 0"], body: "" }),
  ),
);

const credentials: Attack[] = [
  refused("no key", withKey()),
  refused("an empty key", withKey("x-api-key:")),
  refused("the id alone", withKey(`x-api-key: ${sandboxId}`)),
  refused("one character more", withKey(`${key}0`)),
  refused("one character less", withKey(key.slice(0, -1))),
  refused("another sandbox's id with this token", withKey(`x-api-key: sb-ffffffffffffffff.${token}`)),
  refused("a look-alike character", withKey(key.replace("sb-", "ѕb-"))),
  refused("a NUL", withKey(`${key}\0`)),
  refused("a key of 20 KB", withKey(`x-api-key: ${sandboxId}.${"x".repeat(20_000)}`)),
  refused("a key of 1 MB", withKey(`x-api-key: ${sandboxId}.${"x".repeat(1_000_000)}`)),
  refused("the key twice", withKey(key, key)),
  refused("two keys in one header", withKey(`x-api-key: ${sandboxKey}, ${sandboxKey}`)),
  refused(
    "the authorization twice",
    withKey(`authorization: Bearer ${sandboxKey}`, `authorization: Bearer ${sandboxKey}`),
  ),
  refused("two headers that disagree", withKey(key, `authorization: Bearer ${foreignKey}`)),
  refused("a stranger's real key", withKey(`x-api-key: ${foreignKey}`)),
  refused("the key in a cookie", withKey(`cookie: x-api-key=${sandboxKey}`)),
  refused("the key for proxies", withKey(`proxy-authorization: Bearer ${sandboxKey}`)),
  refused("the key with an underscore", withKey(`x_api_key: ${sandboxKey}`)),
  refused("a space before the colon", withKey(`x-api-key : ${sandboxKey}`)),
  refused("a folded key", withKey(`x-api-key:\r\n ${sandboxKey}`)),
  refused("Digest", withKey(`authorization: Digest ${sandboxKey}`)),
  refused("Basic without base64", withKey("authorization: Basic !!!")),
  served(
    "a stranger's key in places that do not pass",
    withHeaders(
      `cookie: ${foreignKey}`,
      `x-goog-api-key: ${foreignKey}`,
      `proxy-authorization: Basic ${foreignKey}`,
      `anthropic-auth-token: ${foreignKey}`,
    ),
  ),
  served("identity headers", withHeaders("x-sandbox-id: sb-other", "x-user: root", "x-modal-sandbox: y")),
  served("a key in capitals and with tabs around it", withKey(`X-Api-Key:\t${sandboxKey}\t`)),
  served(
    "Connection that names the credential",
    withHeaders("connection: x-api-key, authorization, anthropic-version"),
  ),
];

const framing: Attack[] = [
  refused(
    "length and chunks",
    request({ headers: ["host: x", key, length, "transfer-encoding: chunked"], body: `0\r\n\r\n${smuggled}` }),
  ),
  ...[
    "xchunked",
    "chunked, identity",
    "identity, chunked",
    "chunked;x",
    "chunked\x0b",
    "gzip, chunked",
    "identity",
  ].map((coding) =>
    refused(
      `the transfer encoding ${JSON.stringify(coding)}`,
      request({ headers: ["host: x", key, `transfer-encoding: ${coding}`], body: oneChunk }),
    ),
  ),
  refused("two transfer encodings", chunked(oneChunk, "transfer-encoding: chunked")),
  refused(
    "a space before the colon of a transfer encoding",
    request({ headers: ["host: x", key, "transfer-encoding : chunked"], body: oneChunk }),
  ),
  refused("two lengths that differ", request({ headers: ["host: x", key, length, "content-length: 5"] })),
  refused("two lengths that agree", request({ headers: ["host: x", key, length, length] })),
  ...["+5", "-1", "0x5", "5,5", "5 5", "1e2", "99999999999999999999"].map((value) =>
    refused(`the length ${value}`, request({ headers: ["host: x", key, `content-length: ${value}`] })),
  ),
  refused("a body behind GET", request({ line: "GET /v1/models HTTP/1.1" })),
  refused(
    "a chunked body behind GET",
    request({
      line: "GET /v1/models HTTP/1.1",
      headers: ["host: x", key, "transfer-encoding: chunked"],
      body: oneChunk,
    }),
  ),
  refused("an expectation that is unknown", withHeaders("expect: the-spanish-inquisition")),
  refused("bare line feeds", request({}).replaceAll("\r\n", "\n")),
  refused("a bare carriage return in a header", withHeaders("x-app: a\rx-evil: b")),
  refused("a line feed in a header", withHeaders("x-app: a\nx-evil: b")),
  refused("a NUL in a header", withHeaders("x-app: a\0b")),
  refused("a space in a header's name", withHeaders("x app: b")),
  refused("an empty header's name", withHeaders(": b")),
  refused("a chunk's size that is none", chunked(`xyz\r\n${body}\r\n0\r\n\r\n`)),
  refused("a chunk's size beyond all", chunked(`fffffffffffffffff\r\n${body}\r\n0\r\n\r\n`)),
  refused("a chunk's line without its carriage return", chunked(`${oneChunk.replaceAll("\r\n", "\n")}0\n\n`)),
  refused("a chunk extension of 20 KB", chunked(`${oneChunk.replace("\r\n", `;${"x".repeat(20_000)}\r\n`)}0\r\n\r\n`)),
  served("chunks with an extension", chunked(`${oneChunk.replace("\r\n", ';a="b"\r\n')}0\r\n\r\n`)),
  served(
    "trailers that name a key and a host",
    chunked(`${oneChunk}0\r\nx-api-key: ${foreignKey}\r\nhost: evil.example\r\n\r\n`),
  ),
  refused("HTTP/0.9", "GET /v1/models\r\n\r\n"),
  refused("HTTP/1.0", request({ line: "POST /v1/messages HTTP/1.0" })),
  refused("HTTP/1.2", request({ line: "POST /v1/messages HTTP/1.2" })),
  refused("HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  refused(
    "an upgrade to HTTP/2",
    request({ headers: ["host: x", key, length, "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"] }),
  ),
  refused(
    "an upgrade to a WebSocket",
    request({
      line: "GET /v1/models HTTP/1.1",
      headers: ["host: x", key, "upgrade: websocket", "sec-websocket-key: x"],
      body: "",
    }),
  ),
  refused(
    "TLS on a plain port",
    Buffer.from([0x16, 0x03, 0x01, 0x00, 0xa5, 0x01, 0x00, 0x00, 0xa1, 0x03, 0x03, 0x0d, 0x0a, 0x0d, 0x0a]),
  ),
  refused(
    "a request behind a refused one",
    `${request({ line: "POST /v1/files HTTP/1.1" }).replace("connection: close\r\n", "")}${request({})}`,
  ),
  refused("400 headers", withHeaders(...Array.from({ length: 3000 }, (_, index) => `x-${index}: y`))),
  refused("a header of 64 KB", withHeaders(`x-app: ${"x".repeat(65_536)}`)),
  refused("a target of 1 MB", withPath(`/v1/messages?${"x".repeat(1_000_000)}`)),
  refused("a body that is declared too large", request({ headers: ["host: x", key, "content-length: 10000000000"] })),
  ...["gzip", "br", "zstd", "deflate", "gzip, identity"].map((coding) =>
    refused(`a body in ${coding}`, withHeaders(`content-encoding: ${coding}`)),
  ),
];

export const attacks: Readonly<Record<string, readonly Attack[]>> = {
  "A: destination": destination,
  "B: path, method, query": [...paths, ...methods],
  "C: credentials of the client": credentials,
  "D: framing": framing,
};

/** What an attacker tried to bring in; the upstream must never see it. */
export const contraband = [foreignKey, "evil", sandboxKey, token, "x-forwarded-host", "x-original-url", "cookie"];
