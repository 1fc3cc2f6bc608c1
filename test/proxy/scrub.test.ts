import assert from "node:assert/strict";
import { test } from "node:test";
import { credentialForms } from "../../src/credential-forms.ts";
import { Scrubber } from "../../src/proxy/scrub.ts";
import { runningProxy, sandboxKey } from "./running-proxy.ts";

const credential = "sk-ant-api03-Zm9v/YmFy+baz_QUUX-0123456789";

function scrubbed(chunks: readonly string[]): string {
  const scrubber = new Scrubber(credentialForms(credential).map((form) => Buffer.from(form)));
  const passed = chunks.map((chunk) => scrubber.push(Buffer.from(chunk)));
  return Buffer.concat([...passed, scrubber.end()]).toString();
}

const bytes = Buffer.from(credential);
const base64 = (before: string) => Buffer.from(`${before}${credential} after`).toString("base64");
const forms: Record<string, string> = {
  plain: `before ${credential} after`,
  "JSON-escaped": JSON.stringify({ key: credential }),
  "URL-encoded": encodeURIComponent(credential),
  hex: bytes.toString("hex"),
  "upper-case hex": bytes.toString("hex").toUpperCase(),
  base64: base64(""),
  "base64, one byte later": base64("x"),
  "base64, two bytes later": base64("xy"),
  base64url: bytes.toString("base64url"),
  "base64 of a Basic pair": Buffer.from(`user:${credential}`).toString("base64"),
  twice: `${credential}${credential}`,
};

/** Whether any form of the credential is left. */
function leaks(output: string): boolean {
  return credentialForms(credential).some((form) => output.includes(form));
}

for (const [name, input] of Object.entries(forms)) {
  test(`a credential that is ${name} is taken out, and the length stays`, () => {
    assert.ok(leaks(input));
    const output = scrubbed([input]);
    assert.ok(!leaks(output), output);
    assert.equal(output.length, input.length);
  });
}

test("a credential is taken out wherever it is split into chunks", () => {
  const input = `a ${credential} b`;
  for (let at = 1; at < input.length; at += 1) {
    assert.equal(scrubbed([input.slice(0, at), input.slice(at)]), `a ${"*".repeat(credential.length)} b`);
  }
  assert.equal(scrubbed([...input]), `a ${"*".repeat(credential.length)} b`);
});

test("what only begins like a credential passes unchanged, and so does all else", () => {
  const beginning = credential.slice(0, -1);
  for (const input of [beginning, `${beginning}x`, `${beginning}${beginning}`, "sk-ant-", "", "é✓\u0000"]) {
    assert.equal(scrubbed([input]), input);
    assert.equal(scrubbed([...input]), input);
  }
});

test("bytes that cannot begin a credential are not held back", () => {
  const scrubber = new Scrubber(credentialForms(credential).map((form) => Buffer.from(form)));
  assert.equal(scrubber.push(Buffer.from("data: hello\n\n")).toString(), "data: hello\n\n");
});

test("an upstream that repeats the credential, in its body and its headers, shows asterisks", async () => {
  await using proxy = await runningProxy({
    handler: (incoming, response) => {
      const key = String(incoming.headers["x-api-key"]);
      response.writeHead(200, { "content-type": "text/plain", "request-id": `req ${key}`, "x-echo": key });
      response.write(`your key ${key.slice(0, 9)}`);
      setImmediate(() => response.end(`${key.slice(9)} or ${Buffer.from(key).toString("base64")}`));
    },
  });
  const answer = await proxy.send({});
  assert.match(answer.body, /^your key \*+ or \*+={0,2}.{0,2}$/);
  const all = JSON.stringify([answer.headers, answer.body]);
  for (const form of credentialForms(proxy.key)) assert.ok(!all.includes(form));
});

test("headers pass by allow-list, both ways", async () => {
  await using proxy = await runningProxy({
    handler: (_incoming, response) =>
      response
        .writeHead(200, {
          "set-cookie": "session=1",
          "anthropic-organization-id": "org",
          server: "x",
          "cf-ray": "y",
          "anthropic-ratelimit-requests-remaining": "9",
          "request-id": "req_2",
        })
        .end("{}"),
  });
  const headers = {
    "x-api-key": sandboxKey,
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "effort-2025-11-24,context-management-2025-06-27",
    "x-stainless-lang": "js",
    cookie: "c=1",
    "x-forwarded-for": "1.2.3.4",
    "proxy-authorization": "Basic x",
    "anthropic-organization": "org",
    te: "trailers",
    host: "evil.example",
  };
  const answer = await proxy.send({ headers });
  const arrived = Object.keys(proxy.arrived[0]?.headers ?? {}).sort();
  assert.deepEqual(arrived, [
    "accept-encoding",
    "anthropic-beta",
    "anthropic-version",
    "connection",
    "content-length",
    "host",
    "x-api-key",
    "x-stainless-lang",
  ]);
  assert.match(proxy.arrived[0]?.headers.host ?? "", /^127\.0\.0\.1:\d+$/);
  const passed = Object.keys(answer.headers).sort();
  for (const name of ["set-cookie", "anthropic-organization-id", "server", "cf-ray"]) assert.ok(!passed.includes(name));
  assert.equal(answer.headers["anthropic-ratelimit-requests-remaining"], "9");
  assert.equal(answer.headers["request-id"], "req_2");
});
