/** The programs and commands that the skills show. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const instructions = join(import.meta.dirname, "../../instructions");

function textOf(skill: string): string {
  return readFileSync(join(instructions, "skills", skill, "SKILL.md"), "utf8");
}

/** The blocks of Python, without the indentation of a list. */
export function programsIn(skill: string): string[] {
  return [...textOf(skill).matchAll(/^( *)```python\n([\s\S]*?)^ *```$/gm)].map(([, indent = "", code = ""]) =>
    code.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  );
}

/** What stands between backquotes and begins so; there must be one. */
export function wordsIn(skill: string, start: string): string {
  const found = [...textOf(skill).matchAll(/`([^`\n]+)`/g)].map(([, words]) => words ?? "");
  const words = found.find((each) => each.startsWith(start));
  assert.ok(words !== undefined, `${start} in ${skill}`);
  return words;
}
