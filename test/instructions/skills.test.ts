/** What the agent is told: each skill as the real claude reads it, and nothing that it names is missing. */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { runningSession } from "../helpers/running-session.ts";
import { instructions } from "./skill-text.ts";

const skills = globSync("skills/*/SKILL.md", { cwd: instructions }).sort();

function read(path: string): string {
  return readFileSync(join(instructions, path), "utf8");
}

test("every skill has the name of its folder and a description", () => {
  assert.ok(skills.length >= 3);
  for (const path of skills) {
    const [, name] = path.split("/");
    assert.match(read(path), new RegExp(`^---\\nname: ${name}\\ndescription: [^\\n:]{20,}\\n---\\n\\n# `), path);
  }
});

test("the scripts and skills that the instructions name are there", () => {
  for (const path of ["CLAUDE.md", ...skills]) {
    const text = read(path);
    for (const [, script] of text.matchAll(/\/app\/\.claude\/(scripts\/\w+\.py)/g)) {
      assert.ok(existsSync(join(instructions, script ?? "")), `${path} names ${script}`);
    }
    for (const [, skill] of text.matchAll(/skill `([\w-]+)`/g)) {
      assert.ok(skills.includes(`skills/${skill}/SKILL.md`), `${path} names the skill ${skill}`);
    }
  }
});

test("claude tells the model of every skill, with its whole description", async () => {
  await using running = await runningSession();
  await running.say("hello");
  const body = JSON.stringify(running.api.requests.at(-1)?.body);
  for (const path of skills) {
    const [, name, description] = /^name: (.*)\ndescription: (.*)$/m.exec(read(path)) ?? [];
    assert.ok(name && description);
    assert.ok(body.includes(`${name}: ${description}`), path);
  }
});
