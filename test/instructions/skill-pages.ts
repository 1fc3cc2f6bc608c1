/** The pages that the agent reads, and the code in them. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const instructions = join(import.meta.dirname, "../../instructions");

export interface Block {
  language: string;
  code: string;
  /** of its fence, in the page */
  line: number;
  /** why it cannot run in a test: the fence says no-run="…" */
  reason?: string;
}

export interface Page {
  /** below `instructions` */
  path: string;
  text: string;
  blocks: Block[];
}

/** Every Markdown file of the skills. */
export function skillPages(): Page[] {
  return globSync("skills/**/*.md", { cwd: instructions })
    .sort()
    .map((path) => {
      const text = readFileSync(join(instructions, path), "utf8");
      return { path, text, blocks: blocksIn(text, path) };
    });
}

/** A fence may be indented, in a list; its code is what is left without the indentation. */
export function blocksIn(text: string, path: string): Block[] {
  const blocks: Block[] = [];
  let open: { indent: string; language: string; reason: string | undefined; line: number; code: string[] } | undefined;
  for (const [index, row] of text.split("\n").entries()) {
    const fence = /^( *)```(.*)$/.exec(row);
    if (!open && fence) {
      const [, indent = "", info = ""] = fence;
      const [, language = "", reason] = /^(\w+)(?: no-run="([^"]{8,})")?$/.exec(info) ?? [];
      assert.ok(language, `${path}:${index + 1}: a fence is a language, and no-run="a reason" when it cannot run`);
      open = { indent, language, reason, line: index + 1, code: [] };
    } else if (open && row === `${open.indent}\`\`\``) {
      const { language, line, code, reason } = open;
      blocks.push({ language, line, code: `${code.join("\n")}\n`, ...(reason !== undefined && { reason }) });
      open = undefined;
    } else if (open) {
      assert.ok(row === "" || row.startsWith(open.indent), `${path}:${index + 1}: less indentation than its fence`);
      open.code.push(row.slice(open.indent.length));
    }
  }
  assert.equal(open, undefined, `${path}: a fence is not closed`);
  return blocks;
}
