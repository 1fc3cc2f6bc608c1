import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type RefusalStyle, reasons, statusOf } from "../../src/proxy/refusal.ts";

const ofClaudeOnly: ReadonlySet<string> = new Set([
  "feature_not_allowed",
  "model_not_allowed",
  "output_limit",
  "input_not_allowed",
  "budget_exceeded",
]);

test("docs/proxy.md says each reason once, with its statuses", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/proxy.md"), "utf8");
  const section = page.split("\n## ").find((text) => text.startsWith("What a refusal means")) ?? "";
  const rows = [...section.matchAll(/^\| (\d.*?) \|(.*?)\| (`.*?`) \|/gm)].map(
    ([, claude = "", others = "", names = ""]) => ({
      claude,
      others,
      names: [...names.matchAll(/`(\w+)`/g)].map(([, name]) => name as (typeof reasons)[number]),
    }),
  );
  assert.deepEqual(rows.flatMap(({ names }) => names).sort(), [...reasons].sort());
  const written = (cell: string) => new Set(cell.match(/\d+/g)?.map(Number));
  for (const { claude, others, names } of rows) {
    const statuses = (...styles: RefusalStyle[]) =>
      new Set(styles.flatMap((style) => names.map((name) => statusOf(name, style))));
    assert.deepEqual(written(claude), statuses("anthropic"), names.join());
    // empty: only the Claude API is refused for this
    if (others.trim() === "")
      assert.ok(
        names.every((name) => ofClaudeOnly.has(name)),
        names.join(),
      );
    else assert.deepEqual(written(others), statuses("plain", "huggingface"), names.join());
  }
});
