import assert from "node:assert/strict";
import { test } from "node:test";
import { answerTo } from "./dns.ts";

const types = { a: 1, aaaa: 28 };

function query(name: string, type: number): Buffer {
  const labels = name.split(".").flatMap((label) => [Buffer.from([label.length]), Buffer.from(label)]);
  const header = Buffer.from([0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([header, ...labels, Buffer.from([0, 0, type, 0, 1])]);
}

test("an A query has one address, any other an empty answer", () => {
  const answer = answerTo(query("example.com", types.a), "203.0.113.10");
  assert.equal(answer?.readUInt16BE(0), 0xabcd);
  assert.equal(answer?.readUInt16BE(6), 1);
  assert.deepEqual([...(answer?.subarray(-4) ?? [])], [203, 0, 113, 10]);
  assert.equal(answerTo(query("example.com", types.aaaa), "203.0.113.10")?.readUInt16BE(6), 0);
});

test("what is no query has no answer, at any length", () => {
  const whole = query("example.com", types.a);
  for (let size = 0; size < whole.length; size += 1)
    assert.equal(answerTo(whole.subarray(0, size), "1.2.3.4"), undefined);
  const response = Buffer.from(whole);
  response[2] = 0x80;
  assert.equal(answerTo(response, "1.2.3.4"), undefined);
  // 64 and above are no lengths: a pointer to another name begins so
  const compressed = query("x".repeat(0x41), types.a);
  assert.equal(answerTo(compressed, "1.2.3.4"), undefined);
});
