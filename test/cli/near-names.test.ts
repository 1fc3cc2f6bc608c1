import assert from "node:assert/strict";
import { test } from "node:test";
import { nearest } from "../../src/cli/near-names.ts";

const names = ["train", "train-2", "eval", "2026-11-24-2158-a1b2"];

test("a slip of a letter or two, or the beginning, is understood; the nearest first", () => {
  assert.deepEqual(nearest("trian", names), ["train"]);
  assert.deepEqual(nearest("train-3", names), ["train", "train-2"]);
  assert.deepEqual(nearest("evl", names), ["eval"]);
  assert.deepEqual(nearest("2026", names), ["2026-11-24-2158-a1b2"]);
});

test("other words are not", () => {
  assert.deepEqual(nearest("demo", names), []);
  assert.deepEqual(nearest("x", ["a", "b"]), []);
});
