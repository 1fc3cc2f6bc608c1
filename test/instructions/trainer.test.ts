/** transformers' own Trainer on a tiny model, on the CPU, in the sandbox's environment: its metrics are one run of trackio. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { answerOf, foldersIn } from "./inside.ts";
import { readRuns } from "./run-rows.ts";
import { installTrainer, trainerPackages } from "./trainer-packages.ts";

/** As the skill says it, but for the model. `train(run_dir, steps, …)` trains, and goes on where a checkpoint is. */
const training = `
import json, pathlib
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

def train(run_dir, steps, callbacks=None, **more):
    torch.manual_seed(0)
    words = dict(bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=8, n_embd=8, n_layer=1, n_head=1, **words))
    rows = [{"input_ids": row, "labels": row} for row in torch.randint(0, 32, (12, 8))]
    arguments = TrainingArguments(
        output_dir=str(run_dir / "checkpoint"), project="tiny", run_name=run_dir.name, max_steps=steps,
        per_device_train_batch_size=2, use_cpu=True, seed=0, **{"report_to": "trackio", "logging_steps": 1, "save_steps": 2, **more},
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=any((run_dir / "checkpoint").glob("checkpoint-*")))
    return trainer
`;

test("the Trainer's metrics are one run, also when another process goes on", async (context) => {
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  await using folder = await temporaryFolder();
  const setting = { folder: folder.path, packages: trainerPackages };
  const first = `${training}
from setup_trackio import setup_trackio
run_dir = setup_trackio("tiny", "acme/metrics")
import trackio
trackio.log_system({"early": 1})
# what transformers before 5.6.0 does by itself
train(run_dir, 4, trackio_space_id="trackio")
print(json.dumps(str(run_dir)))`;
  const runDir = (await answerOf(setting, first)) as string;
  const path = join(foldersIn(folder.path).databases, "tiny.db");
  assert.deepEqual(readdirSync(join(runDir, "checkpoint")).sort(), ["checkpoint-2", "checkpoint-4"]);
  const before = readRuns(path);
  assert.deepEqual(
    before.runs.map(({ name }) => name),
    [basename(runDir)],
  );
  assert.deepEqual(
    before.losses.map(({ step }) => step),
    [1, 2, 3, 4],
  );
  assert.ok(before.losses.every(({ loss }) => loss > 0 && loss < 10));
  assert.equal(before.config["vocab_size"], 32);
  await answerOf(setting, `${training}\ntrain(pathlib.Path(${JSON.stringify(runDir)}), 6)\nprint("null")`);
  const after = readRuns(path);
  assert.deepEqual(after.runs, before.runs);
  assert.deepEqual(
    after.losses.map(({ step }) => step),
    [1, 2, 3, 4, 5, 6],
  );
});

test("told to end, it leaves a checkpoint of that moment, from which it goes on", async (context) => {
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  await using folder = await temporaryFolder();
  const setting = { folder: folder.path, packages: trainerPackages };
  // it tells itself, when it has begun; it saves seconds later, after some of more steps than it could make by then
  const code = `${training}
import os, signal, transformers
class Tell(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3: os.kill(os.getpid(), signal.SIGTERM)
run_dir = pathlib.Path(${JSON.stringify(join(folder.path, "run"))})
state = train(run_dir, 10**7, callbacks=[Tell()], report_to="none", logging_steps=10**6, save_steps=10**6, enable_jit_checkpoint=True).state
[kept] = (run_dir / "checkpoint").glob("checkpoint-*")
step = json.loads((kept / "trainer_state.json").read_text())["global_step"]
after = train(run_dir, step + 4, report_to="none", save_steps=10**6).state
print(json.dumps([state.max_steps, state.global_step, step, after.global_step]))`;
  const [planned = 0, stopped = 0, kept = 0, after = 0] = (await answerOf(setting, code)) as number[];
  assert.ok(stopped >= 3 && stopped < planned && kept >= 3 && kept <= stopped, `${stopped}, ${kept}`);
  assert.equal(after, kept + 4);
});

test("without setup_trackio a Trainer that names a Space ends for want of a token", async (context) => {
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  await using folder = await temporaryFolder();
  const setting = { folder: folder.path, packages: trainerPackages };
  const run = `pathlib.Path(${JSON.stringify(join(folder.path, "run"))})`;
  const answer = answerOf(setting, `${training}\ntrain(${run}, 2, trackio_space_id="trackio")`);
  await assert.rejects(answer, /LocalTokenNotFoundError/);
});
