/** Every block of code in the skills runs as it is written, page by page, with tiny models; or says why it cannot, and is checked. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest } from "../syncer/runs.ts";
import { environmentOf } from "../syncer/trackio.ts";
import { type PageSandbox, pythonAtHome } from "./page-sandbox.ts";
import { readRuns } from "./run-rows.ts";
import { blocksIn, type Page, skillPages } from "./skill-pages.ts";
import { installTrainer, trainerPackages } from "./trainer-packages.ts";

const pages = skillPages();
/** the first time gigabytes are installed */
const timeout = 1_800_000;

/** The check must find what the libraries do not have. */
const wrong = `\`\`\`python
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, NoSuchName
arguments = TrainingArguments(output_dir="x", evaluation_strategy="steps")
model = AutoModelForCausalLM.from_pretrained("a/b", no_such_argument=1)
model.generate(max_tokens=3)
trainer = Trainer(model=model, args=TrainingArguments(optim="adamw_9bit"), tokenizer=None)
trainer.train(resume=True)
torch.no_such_function()
\`\`\`
`;
const wrongWords = [
  "transformers has no NoSuchName",
  "evaluation_strategy",
  "takes no no_such_argument",
  "takes no max_tokens",
  "optim has no adamw_9bit",
  "'tokenizer'",
  "'resume'",
  "torch has no no_such_function",
];

/** What a page must have left behind. */
const outcomes: Record<string, (folder: string) => void> = {
  "skills/transformers/SKILL.md": (folder) => {
    const { runs, losses } = readRuns(join(folder, "data/trackio/my-project.db"));
    assert.equal(runs.length, 1, "the run that was resumed is the same one");
    assert.ok(losses.length > 5 && losses.every(({ loss }) => Number.isFinite(loss)));
    const [run = ""] = readdirSync(join(folder, "data/runs"));
    const kept = readdirSync(join(folder, "data/runs", run, "checkpoint"));
    assert.equal(kept.filter((name) => name.startsWith("checkpoint-")).length, 2);
    assert.ok(existsSync(join(folder, "data/runs", run, "model/model.safetensors")));
  },
  "skills/hugging-face-trackio/SKILL.md": (folder) => {
    const { runs, steps } = readRuns(join(folder, "data/trackio/my-project.db"));
    assert.equal(runs.length, 1);
    assert.deepEqual(
      steps,
      Array.from({ length: 21 }, (_, index) => index),
    );
    assert.equal(readFileSync(join(folder, "trackio/space_id"), "utf8"), "owner/space\n");
  },
  "skills/training-run/SKILL.md": (folder) => {
    const log = readFileSync(join(folder, "data/runs/example/train.log"), "utf8");
    const steps = [...log.matchAll(/^step (\d+) loss/gm)].map(([, step]) => Number(step));
    assert.deepEqual(
      steps,
      Array.from({ length: 22 }, (_, index) => 10 * (index + 1)),
    );
  },
};

for (const page of pages.filter(({ blocks }) => blocks.some(({ reason }) => reason === undefined))) {
  test(`${page.path} does what it says`, { timeout }, async (context) => {
    const packages = await packagesFor(page, context);
    if (packages === undefined) return;
    await using folder = await temporaryFolder();
    await runs({ folder: folder.path, packages }, page);
    outcomes[page.path]?.(folder.path);
  });
}

test("the code of all pages is Python 3.10 or shell, and its calls fit the libraries", { timeout }, async (context) => {
  for (const { path, blocks } of pages) {
    for (const { line, code } of blocks.filter(({ language }) => language === "bash")) {
      const { status, stderr } = spawnSync("bash", ["-n", "-c", code], { encoding: "utf8" });
      assert.equal(status, 0, `${path}:${line}: ${stderr}`);
    }
  }
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  await using folder = await temporaryFolder();
  // one process for all: each takes seconds to load the libraries
  const { problems, checked } = await check(folder.path, [...pages, { path: "wrong.md", blocks: blocksIn(wrong, "") }]);
  const isExpected = (problem: string) => problem.startsWith("wrong.md");
  assert.deepEqual(
    problems.filter((problem) => !isExpected(problem)),
    [],
  );
  const found = problems.filter(isExpected);
  assert.equal(found.length, wrongWords.length, found.join("\n"));
  for (const [index, words] of wrongWords.entries()) assert.ok(found[index]?.includes(words), found.join("\n"));
  // a checker that resolves nothing would find nothing
  for (const name of ["TrainingArguments", "Trainer", "trainer.train", "LoraConfig", "BitsAndBytesConfig", "load_dataset"]) {
    assert.ok(checked.includes(name), `${name} was not checked`);
  }
});

test("a block that fails fails its page", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  for (const code of ["print(1)\nraise ValueError('wrong')", "import sys\nsys.exit(3)"]) {
    await using folder = await temporaryFolder();
    const blocks = [{ language: "python", code, line: 7 }];
    const page = { path: "page.md", text: "", blocks };
    await assert.rejects(runs({ folder: folder.path, packages: trackioPackages() }, page), /block at line 7 failed/);
  }
});

async function runs(sandbox: PageSandbox, page: Page): Promise<void> {
  const said = await pythonAtHome(sandbox, "run_page.py", [
    write(sandbox.folder, { blocks: page.blocks, tiny: needsTorch(page) }),
  ]);
  assert.equal(said.code, 0, `${page.path}\n${said.stderr}\n${said.stdout}`);
}

async function check(folder: string, all: Pick<Page, "path" | "blocks">[]): Promise<{ problems: string[]; checked: string[] }> {
  const sandbox = { folder, packages: trainerPackages };
  const { code, stdout, stderr } = await pythonAtHome(sandbox, "check_page.py", [write(folder, all)]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
}

/** Where the page's blocks lie inside. */
function write(folder: string, what: object): string {
  mkdirSync(join(folder, "data"), { recursive: true });
  writeFileSync(join(folder, "data/page.json"), JSON.stringify(what));
  return "/data/page.json";
}

function needsTorch({ blocks }: Page): boolean {
  return blocks.some(({ code }) => /\b(?:torch|transformers|datasets|fit_check)\b/.test(code));
}

async function packagesFor(page: Page, context: TestContext): Promise<string | undefined> {
  if (!needsTorch(page)) return (await isInstalled(newest, context)) ? trackioPackages() : undefined;
  const reason = await installTrainer();
  if (reason === undefined) return trainerPackages;
  context.skip(reason);
}

function trackioPackages(): string {
  return String(environmentOf(newest, "")["PYTHONPATH"]);
}
