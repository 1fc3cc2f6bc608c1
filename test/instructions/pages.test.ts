/** Every block of code in the skills runs as it is written, page by page, with tiny models; or says why it cannot, and is checked. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest } from "../syncer/runs.ts";
import { environmentOf } from "../syncer/trackio.ts";
import { type PageSandbox, pythonAtHome } from "./page-sandbox.ts";
import { blocksIn, type Page, skillPages } from "./skill-pages.ts";
import { installTrainer, trainerPackages } from "./trainer-packages.ts";

const pages = skillPages();
/** the first time gigabytes are installed */
const timeout = 1_800_000;

for (const page of pages.filter(({ blocks }) => blocks.some(({ reason }) => reason === undefined))) {
  test(`${page.path} does what it says`, { timeout }, async (context) => {
    const packages = await packagesFor(page, context);
    if (packages === undefined) return;
    await using folder = await temporaryFolder();
    await runs({ folder: folder.path, packages }, page);
  });
}

test("the code of all pages is Python 3.10 or shell, and its calls fit the libraries", { timeout }, async (context) => {
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  await using folder = await temporaryFolder();
  for (const { path, blocks } of pages) {
    for (const { line, code } of blocks.filter(({ language }) => language === "bash")) {
      const { status, stderr } = spawnSync("bash", ["-n", "-c", code], { encoding: "utf8" });
      assert.equal(status, 0, `${path}:${line}: ${stderr}`);
    }
  }
  const { problems, checked } = await check(folder.path, pages);
  assert.deepEqual(problems, []);
  // a checker that resolves nothing would find nothing
  for (const name of ["TrainingArguments", "Trainer", "trainer.train", "LoraConfig", "BitsAndBytesConfig", "load_dataset"]) {
    assert.ok(checked.includes(name), `${name} was not checked`);
  }
});

test("the check finds arguments and names that the libraries do not have", { timeout }, async (context) => {
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  await using folder = await temporaryFolder();
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
  const { problems } = await check(folder.path, [{ path: "wrong.md", blocks: blocksIn(wrong, "wrong.md") }]);
  const expected = [
    "transformers has no NoSuchName",
    "evaluation_strategy",
    "takes no no_such_argument",
    "takes no max_tokens",
    "optim has no adamw_9bit",
    "'tokenizer'",
    "'resume'",
    "torch has no no_such_function",
  ];
  for (const [index, words] of expected.entries()) assert.ok(problems[index]?.includes(words), problems.join("\n"));
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
