/** What is written on sandboxes, and what they cost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { usdPerHour } from "../../../src/sandbox/modal/prices.ts";
import { type Label, labelOf, tagsOf } from "../../../src/sandbox/modal/tags.ts";

const label: Label = {
  owner: "0123456789abcdef0123456789abcdef",
  role: "agent",
  name: "my_session-agent",
  host: "laptop",
  creation: "c0ffee",
  startedAtMs: 1_700_000_000_000,
  reserved: { gpu: "H100!:2", cpuCores: 4, memoryMiB: 16_384 },
  lifetimeMs: 3_600_000,
  ports: [8080, 9090],
  tags: { session: "my_session", words: "a b/ü%5f" },
};

test("a label survives its way through tags, which hold only letters that Modal takes", () => {
  const tags = tagsOf(label);
  for (const value of Object.values(tags)) assert.match(value, /^[A-Za-z0-9._-]{1,63}$/);
  assert.deepEqual(labelOf(tags, label.owner), label);
});

test("long names and names with underscores come back whole", () => {
  const session = "a_be_".repeat(20);
  const long = { ...label, name: `${session}-agent`, host: "h".repeat(200), tags: { session, other: "_".repeat(64) } };
  const tags = tagsOf(long);
  for (const value of Object.values(tags)) assert.match(value, /^[A-Za-z0-9._-]{1,63}$/);
  assert.deepEqual(labelOf(tags, label.owner), long);
  for (const value of ["my_session", "_", "__5f", "_é_ff", "%41", "", "a.2"])
    assert.equal(labelOf(tagsOf({ ...label, tags: { value } }), label.owner)?.tags["value"], value);
  assert.equal(tagsOf({ ...label, tags: { session: "my_session" } })["session"], "my_session");
});

test("tags that are not ours are no label, and a spec's tags cannot take our names", () => {
  const tags = tagsOf(label);
  assert.equal(labelOf(tags, "f".repeat(32)), undefined);
  assert.equal(labelOf({ ...tags, "modal-sb": "2" }, label.owner), undefined);
  assert.equal(labelOf({ ...tags, role: "root" }, label.owner), undefined);
  assert.equal(labelOf({}, label.owner), undefined);
  assert.equal(tagsOf({ ...label, tags: { owner: "x" } })["owner"], label.owner);
  assert.equal(labelOf({ ...tags, words: "_ff_fe" }, label.owner)?.tags["words"], "\u{fffd}\u{fffd}");
});

test("the price is of the GPUs, the cores and the memory; that of an unknown GPU is not known", () => {
  assert.equal(usdPerHour({ gpu: "H100:2", cpuCores: 4, memoryMiB: 2048 }), 8.516);
  assert.equal(usdPerHour({ cpuCores: 0.25, memoryMiB: 512 }), 0.0476);
  assert.equal(usdPerHour({ gpu: "B300", cpuCores: 4, memoryMiB: 2048 }), undefined);
});
