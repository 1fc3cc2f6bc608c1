/** What the agent is told: each skill as the real claude reads it, and nothing that it names is missing. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { text, toolUse } from "../../src/demo/script.ts";
import { runningSession } from "../helpers/running-session.ts";
import { instructions, skillPages } from "./skill-pages.ts";
import { pinnedPackages } from "./trainer-packages.ts";

const pages = skillPages();
const skills = pages.map(({ path }) => path).filter((path) => path.endsWith("/SKILL.md"));
const references = pages.map(({ path }) => path).filter((path) => path.includes("/references/"));

function read(path: string): string {
  return readFileSync(join(instructions, path), "utf8");
}

test("every skill has the name of its folder and a description", () => {
  assert.ok(skills.length >= 3);
  for (const path of skills) {
    const [, name] = path.split("/");
    assert.match(read(path), new RegExp(`^---\\nname: ${name}\\ndescription: [^\\n:]{20,1024}\\n---\\n\\n# `), path);
    assert.ok(read(path).split("\n").length < 150, `${path} is read whole each time: details belong into references`);
  }
});

test("the files, scripts and skills that the instructions name are there", () => {
  for (const path of ["CLAUDE.md", ...pages.map((page) => page.path)]) {
    const words = read(path);
    for (const [, script] of words.matchAll(/\/app\/\.claude\/(scripts\/\w+\.py)/g)) {
      assert.ok(existsSync(join(instructions, script ?? "")), `${path} names ${script}`);
    }
    for (const [, skill] of words.matchAll(/skill `([\w-]+)`/g)) {
      assert.ok(skills.includes(`skills/${skill}/SKILL.md`), `${path} names the skill ${skill}`);
    }
    for (const [, target] of words.matchAll(/\]\(([\w/.-]+\.md)\)/g)) {
      assert.ok(existsSync(join(instructions, dirname(path), target ?? "")), `${path} links to ${target}`);
    }
    for (const [, reference] of words.matchAll(/`(references\/[\w-]+\.md)`/g)) {
      assert.ok(existsSync(join(instructions, dirname(path), reference ?? "")), `${path} names ${reference}`);
    }
  }
});

test("every reference is named by its skill, with the folder that it lies in", () => {
  assert.ok(references.length >= 12);
  for (const path of references) {
    const [, skill = "", ...rest] = path.split("/");
    const words = read(`skills/${skill}/SKILL.md`);
    assert.ok(words.includes(`\`${rest.join("/")}\``), `${path} is not named`);
    assert.ok(words.includes(`/app/.claude/skills/${skill}/`), `${skill} does not say where its references are`);
  }
});

test("the versions that the skills install are those that are tested", () => {
  let count = 0;
  for (const { path, text: words } of pages) {
    for (const [pin] of words.matchAll(/\b[\w-]+==[\d.]*\d/g)) {
      assert.ok(pinnedPackages.includes(pin), `${path} installs ${pin}`);
      count += 1;
    }
  }
  assert.ok(count >= 5);
});

test("claude tells the model of every skill, opens one when asked, and can read a reference of it", async () => {
  const reference = "references/memory.md";
  await using running = await runningSession({
    // an opened skill comes as words of the user, so that steps are counted anew
    script: ({ toolCalls }) => {
      if (toolCalls.length === 0) return toolUse("Skill", { skill: "transformers" });
      if (toolCalls.length === 1)
        return toolUse("Read", { file_path: `/app/.claude/skills/transformers/${reference}` });
      return text("done");
    },
  });
  await running.say("hello");
  const requests = running.api.requests.map(({ body }) => JSON.stringify(body));
  for (const path of skills) {
    const [, name, description] = /^name: (.*)\ndescription: (.*)$/m.exec(read(path)) ?? [];
    assert.ok(name && description);
    assert.ok(requests[0]?.includes(`${name}: ${description}`), path);
  }
  const last = requests.at(-1) ?? "";
  const inside = (words: string) => JSON.stringify(words).slice(1, -1);
  assert.ok(last.includes(inside("## Going on after an interruption")), "the skill was not opened");
  assert.ok(!(requests[0] ?? "").includes(inside("## Going on after an interruption")));
  assert.ok(last.includes(inside("# When it does not fit")), "the reference was not read");
});
