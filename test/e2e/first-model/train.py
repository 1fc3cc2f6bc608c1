"""What the agent of first-model.test.ts writes: a tiny BERT with the Trainer, on rows made here.

Usage: train.py <run folder> <steps> [<step at which it stands still>]
"""

import pathlib
import sys
import time

import torch
import trackio
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

run_dir, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])
last_step = int(sys.argv[3]) if len(sys.argv) > 3 else None
checkpoints = run_dir / "checkpoint"


def rows(count, seed):
    """Twelve tokens; the class says whether the second one is of the upper half."""
    tokens = torch.randint(2, 64, (count, 12), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "attention_mask": torch.ones(12, dtype=torch.long), "labels": int(row[1] > 32)} for row in tokens]


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


class StandStill(TrainerCallback):
    """However long it takes to end its sandbox, that is in the middle of the training."""

    def on_step_end(self, args, state, control, **kwargs):
        while state.global_step == last_step:
            time.sleep(1)


torch.manual_seed(0)
sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, max_position_embeddings=16)
model = BertForSequenceClassification(BertConfig(vocab_size=64, num_labels=2, **sizes))
arguments = TrainingArguments(
    output_dir=str(checkpoints),
    project="tiny",
    run_name=run_dir.name,
    report_to="trackio",
    max_steps=steps,
    per_device_train_batch_size=32,
    learning_rate=3e-3,
    logging_steps=10,
    save_steps=50,
    save_total_limit=2,
    use_cpu=True,
    seed=0,
    disable_tqdm=True,
)
trainer = Trainer(
    model=model,
    args=arguments,
    train_dataset=rows(4096, 1),
    eval_dataset=rows(512, 2),
    compute_metrics=accuracy,
    callbacks=[StandStill()],
)
# one that was being written when the sandbox was lost lacks this file
whole = [path.parent for path in checkpoints.glob("checkpoint-*/trainer_state.json")]
kept = sorted(whole, key=lambda path: int(path.name.split("-")[1]))
print(f"from step {kept[-1].name.split('-')[1] if kept else 0}", flush=True)
trainer.train(resume_from_checkpoint=str(kept[-1]) if kept else None)
trainer.save_model(str(run_dir / "model"))
print(f"accuracy {trainer.evaluate()['eval_accuracy']:.3f}", flush=True)
trackio.finish()
