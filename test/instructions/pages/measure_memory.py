"""Trains tiny models on the CPU and compares the process's real memory with what fit_check.py says.

Prints JSON: {case: {"estimate": bytes, "measured": bytes, "parameters": [estimated from the config, real]}}. The
estimate is without what only a GPU has.
"""

import dataclasses
import gc
import json
import pathlib
import re
import sys

sys.path.insert(0, "/app/.claude/scripts")
import fit_check
import model_shape
import torch

torch.manual_seed(0)
BATCH, LENGTH, VOCABULARY = 4, 256, 8000
SIZES = {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "attention_dropout": 0.0}


def qwen(tie=False):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
    return Qwen3ForCausalLM, Qwen3Config(
        hidden_size=256, intermediate_size=768, num_hidden_layers=6, tie_word_embeddings=tie, **heads, **SIZES
    )


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM, LlamaConfig(
        hidden_size=384, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=6, **SIZES
    )


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel, GPT2Config(
        vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=256, n_layer=6, n_head=4, bos_token_id=0, eos_token_id=0, **quiet
    )


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes = {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH}
    return BertForSequenceClassification, BertConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=4, num_labels=2, **sizes, **quiet
    )


CASES = {
    "qwen full adamw": (qwen, fit_check.Plan(method="full", precision="fp32", optimizer="adamw")),
    "qwen tied sgd": (lambda: qwen(tie=True), fit_check.Plan(method="full", precision="fp32", optimizer="sgd")),
    "qwen mixed": (qwen, fit_check.Plan(method="full", precision="mixed")),
    "qwen bf16": (qwen, fit_check.Plan(method="full", precision="bf16")),
    "llama checkpointing": (llama, fit_check.Plan(method="full", precision="fp32", checkpointing=True)),
    "llama lora": (llama, fit_check.Plan(method="lora", precision="fp32", rank=16)),
    "llama lora bf16": (llama, fit_check.Plan(method="lora", precision="bf16", rank=16)),
    "gpt2 full": (gpt2, fit_check.Plan(method="full", precision="fp32")),
    "bert full": (bert, fit_check.Plan(method="full", precision="fp32")),
}


def measure(make, plan) -> dict:
    model_class, config = make()
    config.architectures = [model_class.__name__]
    gc.collect()
    before = resident("VmRSS")
    # lifts the mark of the highest memory down to what is used now
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    model = model_class(config)
    parameters = model.num_parameters()
    if plan.precision == "bf16":
        model = model.to(torch.bfloat16)
    if plan.method == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=plan.rank, target_modules="all-linear"))
    if plan.checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.1) if plan.optimizer == "sgd" else torch.optim.AdamW(trained, 1e-3, fused=True)
    rows = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    labels = rows if model_class.__name__.endswith(("CausalLM", "LMHeadModel")) else torch.zeros(BATCH, dtype=torch.long)
    # a later step: the optimizer has its state, and as with gradient accumulation there are gradients already
    for each in trained:
        each.grad = torch.zeros_like(each)
    optimizer.step()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.precision == "mixed"):
        loss = model(input_ids=rows, labels=labels).loss
    loss.backward()
    measured = resident("VmHWM") - before
    counted = model_shape.shape_of(config.to_dict())
    plan = dataclasses.replace(plan, batch=BATCH, length=LENGTH, is_gpu=False)
    parts = fit_check.parts_of(model_shape.shape_of(config.to_dict(), parameters), plan)
    return {"estimate": sum(parts.values()), "measured": measured, "parameters": [counted.parameters, parameters]}


def resident(name: str) -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024


def main() -> None:
    # what is loaded and allocated once is not the models'
    measure(qwen, fit_check.Plan(method="lora", precision="bf16"))
    names = sys.argv[1:] or list(CASES)
    print(json.dumps({name: measure(*CASES[name]) for name in names}))


main()
