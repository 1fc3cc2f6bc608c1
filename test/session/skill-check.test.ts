/** What is said of each skill, beside what the real claude makes of it. */
import assert from "node:assert/strict";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { skillProblems } from "../../src/session/skill-check.ts";
import { runningSession } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const body = "\n# Title\n\nThe body.\n";
const matter = (...lines: string[]) => `---\n${lines.join("\n")}\n---\n${body}`;
const long = (letters: number) => `Intended ${"x".repeat(letters - 9)}`;

type Seen = "whole" | "otherwise" | "not";

/** By the skill's folder: its SKILL.md, how claude sees it, and the words for the user. */
const skills: Record<string, [text: string, seen: Seen, problem?: RegExp]> = {
  plain: [matter("name: plain", "description: Intended plain"), "whole"],
  nameless: [matter("description: Intended nameless"), "whole"],
  "another-name": [matter("name: other", "description: Intended another"), "whole"],
  quoted: [matter('description: "Intended: quoted"'), "whole"],
  folded: [matter("description: >", "  Intended", "  folded"), "whole"],
  colon: [matter("description: Intended colon: and more"), "whole"],
  windows: [matter("name: windows", "description: Intended windows").replaceAll("\n", "\r\n"), "whole"],
  mark: [`\uFEFF${matter("description: Intended mark")}`, "whole"],
  bracket: [matter("description: [Intended bracket"), "whole"],
  fits: [matter(`description: ${long(1536)}`), "whole"],
  cut: [matter(`description: ${long(1537)}`), "otherwise", /1537 letters, more than the 1536 .* shorten it/],
  list: [matter("description: [Intended, list]"), "otherwise", /is no text: claude shows/],
  map: [matter("description:", "  a: b"), "otherwise", /is no text/],
  bare: [body, "otherwise", /does not begin with the line "---"/],
  late: [`\n${matter("description: Intended late")}`, "otherwise", /does not begin/],
  open: ["---\ndescription: Intended open\n", "otherwise", /without the line "---" at its end/],
  undescribed: [matter("name: undescribed"), "otherwise", /has no description/],
  empty: [matter("description:"), "otherwise", /empty description/],
  unquoted: [matter('description: "Intended unquoted', "name: x"), "otherwise", /quotation mark is not closed/],
  tabbed: [matter("name: tabbed", "\tdescription: Intended tabbed"), "otherwise", /has a tab/],
  large: [`${matter("description: Intended large")}${"x".repeat(1_000_000)}`, "not", /bytes: claude will not see it/],
  off: [matter("description: Intended off", "disable-model-invocation: true"), "not"],
};

async function makeSkills(folder: string): Promise<void> {
  for (const [name, [text]] of Object.entries(skills)) {
    await mkdir(join(folder, "skills", name), { recursive: true });
    await writeFile(join(folder, "skills", name, "SKILL.md"), text);
  }
  const description = matter("description: Intended elsewhere");
  await mkdir(join(folder, "skills/lower"));
  await writeFile(join(folder, "skills/lower/skill.md"), description);
  await mkdir(join(folder, "skills/nested/inner"), { recursive: true });
  await writeFile(join(folder, "skills/nested/inner/SKILL.md"), description);
  await writeFile(join(folder, "skills/loose.md"), description);
  await symlink("/nonexistent", join(folder, "skills/dangling"));
  await mkdir(join(folder, "skills/directory/SKILL.md"), { recursive: true });
}

test("of each skill is said what claude does with it", async () => {
  await using folder = await temporaryFolder();
  await makeSkills(folder.path);
  const problems = skillProblems(folder.path);
  const problemOf = (name: string) => problems.find((words) => words.startsWith(`skills/${name} `));
  await using running = await runningSession({ changes: { instructions: folder.path } });
  await running.say("hello");
  const [, listed = ""] =
    /The following skills are available[^\n]*\n\n([\s\S]*?)\n\n/.exec(textOf(running.api.requests.at(-1)?.body)) ?? [];
  const seenOf = (name: string): Seen => {
    const line = listed.split("\n").find((each) => new RegExp(`^- ${name}( \\(.*\\))?: `).test(each));
    if (line === undefined) return "not";
    return line.includes("Intended") && !line.endsWith("…") ? "whole" : "otherwise";
  };
  for (const [name, [, seen, words]] of Object.entries(skills)) {
    assert.equal(seenOf(name), seen, `claude and ${name}: ${listed.slice(0, 3000)}`);
    const problem = problemOf(name);
    if (words) assert.match(problem ?? "", words, name);
    else assert.equal(problem, undefined, name);
  }
  for (const [name, words] of [
    ["lower", /has no SKILL\.md: claude will not see it; its "skill\.md" must be called so/],
    ["nested", /has no SKILL\.md: .*; folders in folders are not looked into/],
    ["loose.md", /is no folder: claude will not see it/],
    ["dangling", /is a link out of the folder, or to nothing/],
    ["directory", /has a SKILL\.md that is no file/],
  ] as const) {
    assert.match(problemOf(name) ?? "", words);
    assert.equal(seenOf(name.replace(".md", "")), "not", name);
  }
  assert.ok(!listed.includes("Intended elsewhere"));
});

test("the bundled skills have no fault, and a folder without skills none either", async () => {
  assert.deepEqual(skillProblems(join(import.meta.dirname, "../../instructions")), []);
  await using folder = await temporaryFolder();
  assert.deepEqual(skillProblems(folder.path), []);
});

/** All texts of a request's messages. */
function textOf(request: unknown): string {
  const { messages } = request as { messages: { content: string | { text?: string }[] }[] };
  return messages
    .flatMap(({ content }) => (typeof content === "string" ? [content] : content.map(({ text = "" }) => text)))
    .join("\n");
}
