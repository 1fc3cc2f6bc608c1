/** Every block of code in the skills runs as it is written, page by page, with tiny models; or says why it cannot, and is checked. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest } from "../syncer/runs.ts";
import { environmentOf } from "../syncer/trackio.ts";
import { type PageSandbox, pythonAtHome } from "./page-sandbox.ts";
import { readRuns } from "./run-rows.ts";
import { blocksIn, type Page, skillPages } from "./skill-pages.ts";
import { installTrainer, trainerPackages } from "./trainer-packages.ts";

const pages = skillPages();

const withTorch = once(trainerPackages, needsTorch, true);
const withTrackio = once(trackioPackages(), (page) => !needsTorch(page), false);

/** The check must find what the libraries do not have. */
const wrong = `\`\`\`python
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments, NoSuchName
arguments = TrainingArguments(output_dir="x", evaluation_strategy="steps")
model = AutoModelForCausalLM.from_pretrained("a/b", no_such_argument=1)
model.generate(max_tokens=3)
trainer = Trainer(model=model, args=TrainingArguments(optim="adamw_9bit"), tokenizer=None)
trainer.train(resume=True)
torch.no_such_function()
BitsAndBytesConfig(load_in_4bits=True)
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
  "BitsAndBytesConfig takes no load_in_4bits",
];

/** A call with each argument that failures.md says is no longer one of TrainingArguments. */
function goneArguments(): string[] {
  const page = pages.find(({ path }) => path.endsWith("/failures.md"))?.text ?? "";
  const table = page.slice(page.indexOf("| then | now |"));
  const names = [...table.matchAll(/^\| (`\w+`(?:, `\w+`)*) \|/gm)].flatMap(
    ([, cell = ""]) => cell.match(/\w+/g) ?? [],
  );
  // these still work, and warn
  const gone = names.filter((name) => !["torch_dtype", "gradient_checkpointing"].includes(name));
  assert.ok(gone.length >= 7, gone.join(" "));
  return [
    "from transformers import TrainingArguments",
    ...gone.map((name) => `TrainingArguments(output_dir="x", ${name}=1)`),
  ];
}

/** Before the block that resumes: the last checkpoint is cut off, as when a sandbox is lost while it is written. */
function interrupted(page: Page): Page {
  const code = `(run_dir / "checkpoint/checkpoint-12/trainer_state.json").unlink()`;
  const blocks = page.blocks.flatMap((block) =>
    block.code.includes("resume_from_checkpoint=last and")
      ? [{ language: "python", line: block.line, code }, block]
      : [block],
  );
  return { ...page, blocks };
}

/** What a page must have left behind. */
const outcomes: Record<string, (folder: string) => void> = {
  "skills/transformers/SKILL.md": (folder) => {
    const { runs, losses } = readRuns(join(folder, "data/trackio/my-project.db"));
    assert.equal(runs.length, 1, "the run that was resumed is the same one");
    assert.ok(losses.every(({ loss }) => Number.isFinite(loss)));
    const counted = Array.from({ length: 12 }, (_, index) => index + 1);
    assert.deepEqual(
      losses.map(({ step }) => step),
      [...counted, ...counted.slice(8)],
      "it went on from the last whole checkpoint",
    );
    const run =
      readdirSync(join(folder, "data/runs"))
        .filter((name) => name.startsWith("my-project-"))
        .sort()
        .at(-1) ?? "";
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

for (const page of pages.filter(runsHere)) {
  test(`${page.path} does what it says`, async (context) => {
    const packages = await packagesFor(page, context);
    if (packages === undefined) return;
    const { folder, results } = await (needsTorch(page) ? withTorch : withTrackio)();
    const { code, output } = results[page.path] ?? { code: undefined, output: "" };
    assert.equal(code, 0, output);
    outcomes[page.path]?.(folder);
  });
}

test("the code of all pages is Python 3.10 or shell, and its calls fit the libraries", async (context) => {
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
  const { problems, checked } = await check(folder.path, [
    ...pages,
    { path: "wrong.md", blocks: blocksIn(wrong, "") },
    { path: "gone.md", blocks: [{ language: "python", line: 0, code: goneArguments().join("\n") }] },
  ]);
  const isGone = (problem: string) => problem.startsWith("gone.md");
  const isExpected = (problem: string) => problem.startsWith("wrong.md") || isGone(problem);
  assert.deepEqual(
    problems.filter((problem) => !isExpected(problem)),
    [],
  );
  // each of them is on a line of its own, after the one that imports
  assert.equal(problems.filter(isGone).length, goneArguments().length - 1, problems.filter(isGone).join("\n"));
  const found = problems.filter((problem) => isExpected(problem) && !isGone(problem));
  assert.equal(found.length, wrongWords.length, found.join("\n"));
  for (const [index, words] of wrongWords.entries()) assert.ok(found[index]?.includes(words), found.join("\n"));
  // a checker that resolves nothing would find nothing
  for (const name of [
    "TrainingArguments",
    "Trainer",
    "trainer.train",
    "LoraConfig",
    "BitsAndBytesConfig",
    "load_dataset",
  ]) {
    assert.ok(checked.includes(name), `${name} was not checked`);
  }
});

test("failures look as the skill quotes them", async (context) => {
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  await using folder = await temporaryFolder();
  const sandbox = { folder: folder.path, packages: trainerPackages };
  const { code, stdout, stderr } = await pythonAtHome(sandbox, "make_failures.py", []);
  assert.equal(code, 0, stderr);
  const failures = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Record<string, string>;
  const page = pages.find(({ path }) => path.endsWith("/failures.md"))?.text ?? "";
  const quoted = [...page.matchAll(/^\| ([^|]*`[^|]*) \|/gm)].flatMap(([, cell = ""]) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, words = ""]) => words),
  );
  for (const [what, said] of Object.entries(failures)) {
    assert.ok(
      quoted.some((words) => said.includes(words)),
      `${what}: ${said}`,
    );
  }
});

test("a block that fails, or ends Python, fails its page and no other", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using folder = await temporaryFolder();
  const sources = [
    "print(1)\nraise ValueError('wrong')",
    "import sys\nsys.exit(3)",
    "import os\nos._exit(0 or 4)",
    "print(2)",
  ];
  const broken = sources.map((code, index) => ({
    path: String(index),
    blocks: [
      { language: "python", code, line: 7 },
      { language: "bash", code: "false | true", line: 9 },
    ],
  }));
  const results = await runPages({ folder: folder.path, packages: trackioPackages() }, broken, false);
  assert.deepEqual(
    Object.values(results).map(({ code }) => code),
    [1, 1, 4, 1],
  );
  for (const [index, line] of [7, 7].entries())
    assert.match(results[index]?.output ?? "", new RegExp(`at line ${line} failed`));
  assert.match(results[3]?.output ?? "", /^2\n[\s\S]*the bash block at line 9 failed/);
});

type Results = Record<string, { code: number; output: string }>;

/** All pages of a kind once, in one sandbox: loading the libraries takes longer than running a page. */
function once(packages: string, areMine: (page: Page) => boolean, tiny: boolean) {
  let running: Promise<{ folder: string; results: Results }> | undefined;
  let made: Awaited<ReturnType<typeof temporaryFolder>> | undefined;
  after(() => made?.[Symbol.asyncDispose]());
  const run = async () => {
    made = await temporaryFolder();
    const sandbox = { folder: made.path, packages };
    return {
      folder: made.path,
      results: await runPages(sandbox, pages.filter(runsHere).filter(areMine).map(interrupted), tiny),
    };
  };
  return () => {
    running ??= run();
    return running;
  };
}

async function runPages(sandbox: PageSandbox, some: Pick<Page, "path" | "blocks">[], tiny: boolean): Promise<Results> {
  const said = await pythonAtHome(sandbox, "run_pages.py", [write(sandbox.folder, { pages: some, tiny })]);
  assert.equal(said.code, 0, `${said.stderr}\n${said.stdout}`);
  return JSON.parse(said.stdout.trim().split("\n").at(-1) ?? "") as Results;
}

async function check(
  folder: string,
  all: Pick<Page, "path" | "blocks">[],
): Promise<{ problems: string[]; checked: string[] }> {
  const sandbox = { folder, packages: trainerPackages };
  const { code, stdout, stderr } = await pythonAtHome(sandbox, "check_pages.py", [write(folder, all)]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
}

/** Where the page's blocks lie inside. */
function write(folder: string, what: object): string {
  mkdirSync(join(folder, "data"), { recursive: true });
  writeFileSync(join(folder, "data/page.json"), JSON.stringify(what));
  return "/data/page.json";
}

function runsHere({ blocks }: Page): boolean {
  return blocks.some(({ reason }) => reason === undefined);
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
