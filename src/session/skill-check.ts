/**
 * Which skills claude will not see, or not as they are meant: it says nothing of them itself. What it does was found by asking the
 * claude of @anthropic-ai/claude-agent-sdk 0.3.330; test/session/skill-check.test.ts asks it again.
 */
import { readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { join } from "node:path";

/** claude leaves out a SKILL.md that is larger */
const maxSkillBytes = 1_000_000;
/** claude cuts a description behind it */
const maxDescription = 1536;

/** One sentence for each skill in `<folder>/skills` with a fault. */
export function skillProblems(folder: string): string[] {
  const skills = join(folder, "skills");
  if (!statSync(skills, { throwIfNoEntry: false })?.isDirectory()) return [];
  const names = readdirSync(skills)
    .filter((name) => !name.startsWith("."))
    .sort();
  return names.flatMap((name) => {
    const problem = problemOf(join(skills, name), folder);
    return problem === undefined ? [] : [`skills/${name} ${problem}`];
  });
}

function problemOf(path: string, home: string): string | undefined {
  const stat = statIn(home, path);
  if (!stat) return "is a link out of the folder, or to nothing: claude will not see it";
  if (stat.isFile()) {
    return path.endsWith(".md") ? "is no folder: claude will not see it; a skill is skills/<name>/SKILL.md" : undefined;
  }
  const names = readdirSync(path);
  if (!names.includes("SKILL.md")) return withoutSkill(names);
  const file = statIn(home, join(path, "SKILL.md"));
  if (!file?.isFile()) return "has a SKILL.md that is no file, or a link out of the folder: claude will not see it";
  if (file.size > maxSkillBytes) {
    return `has a SKILL.md of ${file.size} bytes: claude will not see it; at most ${maxSkillBytes}, so put the rest beside it`;
  }
  return ofText(readFileSync(join(path, "SKILL.md"), "utf8"));
}

function withoutSkill(names: readonly string[]): string {
  const near = names.find((name) => /^skill\.(md|txt|markdown)$/i.test(name));
  const hint = near === undefined ? "folders in folders are not looked into" : `its "${near}" must be called so`;
  return `has no SKILL.md: claude will not see it; ${hint}`;
}

/** As claude sees it in the sandbox: links that lead out of the folder lead nowhere there. */
function statIn(home: string, path: string) {
  try {
    const real = realpathSync(path);
    return real.startsWith(`${realpathSync(home)}/`) ? statSync(real) : undefined;
  } catch {
    // it leads nowhere here, too
    return undefined;
  }
}

function ofText(text: string): string | undefined {
  const seenAs = "claude shows the model some of its text in place of a description";
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  if (lines[0]?.trimEnd() !== "---") return `does not begin with the line "---": ${seenAs}`;
  const end = lines.findIndex((line, index) => index > 0 && line.trimEnd() === "---");
  if (end === -1) return `has a front matter without the line "---" at its end: ${seenAs}`;
  const matter = lines.slice(1, end);
  const isOff = matter.some((line) => /^disable-model-invocation:\s*true\s*$/.test(line));
  const problem = ofFrontMatter(matter);
  // whoever switches a skill off knows that it is not seen, and a person can still name it
  return isOff || problem === undefined ? undefined : `${problem}: ${problem.endsWith(cut) ? "shorten it" : seenAs}`;
}

const cut = `${maxDescription} letters, where claude cuts it`;

/** Not all of YAML: what a description needs, and the faults that people make. */
function ofFrontMatter(lines: readonly string[]): string | undefined {
  const tabbed = lines.find((line) => line.startsWith("\t"));
  if (tabbed !== undefined) return "has a tab at the beginning of a line of its front matter, which YAML forbids";
  const at = lines.findLastIndex((line) => line.startsWith("description:"));
  if (at === -1) return "has no description in its front matter";
  const value = lines[at]?.slice("description:".length).trim() ?? "";
  const next = lines.slice(at + 1).findIndex((line) => /^\S/.test(line));
  const below = lines.slice(at + 1, next === -1 ? undefined : at + 1 + next).map((line) => line.trim());
  const isBlock = /^[>|][+-]?\d*$/.test(value);
  const words = [...(isBlock ? [] : [value]), ...below].filter((part) => part !== "").join(" ");
  if (words === "") return "has an empty description";
  if (/^(\[.*\]|\{.*\})$/.test(value)) return "has a description that is no text";
  if (value === "" && /^[\w-]+:(\s|$)|^- /.test(below[0] ?? "")) return "has a description that is no text";
  if (/^["']/.test(value) && !new RegExp(`${value[0]}\\s*(#.*)?$`).test(words.slice(1))) {
    return "has a description whose quotation mark is not closed";
  }
  return words.length > maxDescription
    ? `has a description of ${words.length} letters, more than the ${cut}`
    : undefined;
}
