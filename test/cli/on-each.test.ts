import assert from "node:assert/strict";
import { test } from "node:test";
import { onEach } from "../../src/cli/lifecycle.ts";
import type { Chosen } from "../../src/cli/providers.ts";
import { SandboxError } from "../../src/errors.ts";

const output = { data: () => {}, note: () => {}, dim: String, red: String, bold: String, isTerminal: false };
const chosen = (...names: string[]) => names.map((name) => ({ provider: { name } }) as Chosen);

test("each provider has its turn, also behind one that failed; the first failure counts", async () => {
  const asked: string[] = [];
  const codes: Record<string, number> = { one: 0, two: 3, three: 5 };
  const exitCode = await onEach(chosen("one", "two", "three"), output, async ({ provider: { name } }) => {
    asked.push(name);
    return codes[name] ?? 0;
  });
  assert.deepEqual([exitCode, asked], [3, ["one", "two", "three"]]);
  const thrown = onEach(chosen("one", "two"), output, async ({ provider: { name } }) => {
    asked.push(name);
    throw new SandboxError(name);
  });
  await assert.rejects(thrown, { message: "one" });
  assert.deepEqual(asked.slice(3), ["one", "two"]);
});
