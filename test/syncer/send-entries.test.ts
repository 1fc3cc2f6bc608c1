import assert from "node:assert/strict";
import { test } from "node:test";
import { type Entry, sendEntries } from "../../src/syncer/send-entries.ts";
import { ServerFailure } from "../../src/syncer/trackio-server.ts";

const entries: Entry[] = Array.from({ length: 500 }, (_unused, id) => ({ id, json: String(id) }));

test("the rows that a server cannot take are found among those that it takes", async () => {
  const taken: number[] = [];
  const refused = await sendEntries(entries, async (part) => {
    if (part.some(({ id }) => id === 77 || id === 400)) throw new ServerFailure("content", "no");
    taken.push(...part.map(({ id }) => id));
  });
  assert.deepEqual(
    refused,
    [77, 400].map((id) => ({ id, reason: "no" })),
  );
  assert.deepEqual(
    taken,
    entries.map(({ id }) => id).filter((id) => id !== 77 && id !== 400),
  );
});

test("a server that takes nothing is left alone after a dozen requests, and no row is blamed", async () => {
  let requests = 0;
  const sending = sendEntries(entries, async () => {
    requests += 1;
    throw new ServerFailure("content", "no");
  });
  await assert.rejects(sending, (error: ServerFailure) => error.kind === "content");
  assert.ok(requests <= 12, `${requests} requests`);
});

test("a single row is not blamed for a server that takes nothing", async () => {
  const sending = sendEntries(entries.slice(0, 1), async () => {
    throw new ServerFailure("content", "no");
  });
  await assert.rejects(sending, (error: ServerFailure) => error.kind === "content");
});
