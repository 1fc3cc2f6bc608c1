"""Makes failures of which failures.md tells, as far as a CPU without a network can. Prints JSON: {what was done: error as text}."""

import json
import pathlib
import tempfile

import tiny_things

tiny_things.make_all(pathlib.Path("/app"))

import safetensors.torch
import torch
from huggingface_hub import hf_hub_download
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-0.6B")
no_pad = AutoTokenizer.from_pretrained("Qwen/Qwen3-0.6B")
no_pad.pad_token = None
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-0.6B")
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "cut.safetensors").write_bytes(b"x" * 20)
(folder / "cut.pt").write_bytes(b"PK\x03\x04")
entropy = torch.nn.functional.cross_entropy


def no_labels():
    ids = torch.tensor([[5, 6, 7]])
    raise ValueError(f"loss is {model(input_ids=ids, labels=torch.full_like(ids, -100)).loss.item()}")


FAILURES = {
    "padding without a pad token": lambda: no_pad(["a", "b c d"], padding=True),
    "tensors of rows of different lengths": lambda: tokenizer(["a", "b c d"], return_tensors="pt"),
    "a model that is not in the cache": lambda: AutoConfig.from_pretrained("acme/unknown"),
    "a file that is not in the cache": lambda: hf_hub_download("acme/unknown", "config.json"),
    "an argument of version 4": lambda: TrainingArguments(output_dir="x", evaluation_strategy="steps"),
    "a token beyond the model's": lambda: model(input_ids=torch.tensor([[9999]])),
    "a label beyond the model's": lambda: entropy(torch.randn(2, 3), torch.tensor([1, 5])),
    "labels that are decimals": lambda: entropy(torch.randn(2, 3), torch.tensor([1.0, 0.0])),
    "weights that were cut off": lambda: safetensors.torch.load_file(folder / "cut.safetensors"),
    "a state that was cut off": lambda: torch.load(folder / "cut.pt"),
    "labels that are all left out": no_labels,
}


def said_by(function) -> str:
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


print(json.dumps({name: said_by(function) for name, function in FAILURES.items()}))
