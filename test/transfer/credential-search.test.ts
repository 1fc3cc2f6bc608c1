/** The search finds what a plain one finds, wherever it stands and however the stream is cut. */
import assert from "node:assert/strict";
import { randomBytes, randomInt } from "node:crypto";
import { test } from "node:test";
import { credentialForms } from "../../src/credential-forms.ts";
import { Secret } from "../../src/secret.ts";
import { CredentialSearch } from "../../src/transfer/credential-search.ts";

const credentials = new Map([
  ["short", new Secret("aaaaaaaa")],
  ["usual", new Secret("sk-ant-api03-0123456789abcdef")],
  ["other", new Secret('quo"te\\d/+= ü')],
  ["too short", new Secret("abc")],
]);
const search = new CredentialSearch(credentials);

/** The label that is found in pieces of these sizes, the last repeated. */
function find(bytes: Buffer, sizes: number[], searcher = search): string | undefined {
  const stream = searcher.begin();
  for (let [at, index] = [0, 0]; at < bytes.length; index += 1) {
    const size = sizes[Math.min(index, sizes.length - 1)] ?? 1;
    const found = stream.push(bytes.subarray(at, at + size));
    if (found !== undefined) return found;
    at += size;
  }
  return undefined;
}

test("every form, at every place, in pieces of every small size", () => {
  for (const [label, secret] of credentials) {
    if (label === "too short") continue;
    for (const form of credentialForms(secret.reveal())) {
      for (const before of [0, 1, 5, 63]) {
        const bytes = Buffer.concat([Buffer.alloc(before, `${"a".repeat(7)}b`), Buffer.from(form), Buffer.alloc(3)]);
        for (const size of [1, 2, 3, 7, 16, 1000])
          assert(find(bytes, [size]) !== undefined, `${label} ${before} ${size}`);
      }
    }
  }
});

test("what is not there is not found", () => {
  const almost = [...credentials.values()].flatMap((secret) =>
    credentialForms(secret.reveal()).flatMap((form) => [
      form.slice(1),
      form.slice(0, -1),
      `${form.slice(0, 4)}#${form.slice(4)}`,
    ]),
  );
  // a form may contain another's whole beginning, as eight a's would
  const text = Buffer.from(almost.filter((word) => !word.includes("aaaaaaaa")).join("\n"));
  const plain = [...credentials].flatMap(([, secret]) =>
    secret.reveal().length < 8 ? [] : credentialForms(secret.reveal()),
  );
  assert(!plain.some((form) => text.includes(form)));
  for (const size of [1, 5, 64, 10_000]) assert.equal(find(text, [size]), undefined);
});

test("it agrees with a plain search in random streams of few letters", () => {
  for (let round = 0; round < 300; round += 1) {
    const needle = Array.from({ length: 8 + randomInt(4) }, () => "ab"[randomInt(2)]).join("");
    const searcher = new CredentialSearch(new Map([["it", new Secret(needle)]]));
    const forms = credentialForms(needle).map((form) => Buffer.from(form));
    const bytes = Buffer.from(Array.from({ length: 400 }, () => "ab"[randomInt(2)]).join(""));
    const expected = forms.some((form) => bytes.includes(form)) ? "it" : undefined;
    assert.equal(
      find(bytes, [1 + randomInt(50), 1 + randomInt(50), 1 + randomInt(400)], searcher),
      expected,
      `${needle} in ${bytes}`,
    );
  }
});

test("without credentials nothing is found", () => {
  assert.equal(find(randomBytes(1000), [100], new CredentialSearch(new Map())), undefined);
  assert.equal(find(randomBytes(1000), [100], new CredentialSearch(new Map([["x", new Secret("short")]]))), undefined);
});
