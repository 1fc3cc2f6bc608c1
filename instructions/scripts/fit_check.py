#!/usr/bin/env python3
"""Estimates the memory that a transformers model needs, part by part, and says whether it fits the GPU.

    python3 /app/.claude/scripts/fit_check.py Qwen/Qwen3-0.6B --method lora --length 1024 --batch 8
    python3 /app/.claude/scripts/fit_check.py --parameters 7B --method full --optimizer adamw8bit --gpu H100

A model is a folder, a config.json, or an id that is in the Hub's cache; `--download` fetches the config of one that is not.
Ends with 0 when it fits, 1 when it does not, 2 when the question cannot be answered. Needs Python 3.10 and nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gpu_report
import model_shape
from model_shape import Shape, Unanswerable

GIB = 2**30

# what nvidia-smi calls the total, in MiB, rounded down
GPUS = {
    "T4": 15360,
    "L4": 23034,
    "A10": 23028,
    "A10G": 23028,
    "L40S": 46068,
    "A100-40GB": 40960,
    "A100-80GB": 81920,
    "RTX-PRO-6000": 97887,
    "H100": 81559,
    "H200": 143771,
    "B200": 183359,
}

# bytes of a weight; the quantised ones with their scales
WEIGHT_BYTES = {"fp32": 4.0, "mixed": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.06, "int4": 0.56}
PRECISIONS = {"full": "mixed", "lora": "bf16", "inference": "bf16"}
# bytes that the optimizer keeps for a weight of 4 bytes; one of 2 bytes halves what is kept in the weight's own type
OPTIMIZERS = {"adamw": 8.0, "adamw8bit": 2.06, "adafactor": 0.1, "sgd": 0.0}
FIXED_TYPE = ("adamw8bit",)
# the GPU's own runtime, and kernels' workspace
CONTEXT_BYTES = 0.8 * GIB
# of what is allocated: pieces that no tensor fits into
FRAGMENTATION = 0.06
# from a tiny check against torch's own counting, and the spread between architectures
ERROR = 0.25
ERROR_BY_SIZE_ONLY = 0.5

@dataclasses.dataclass(frozen=True)
class Plan:
    """How it is to be used."""

    method: str = "full"
    precision: str = "mixed"
    optimizer: str = "adamw"
    rank: int = 16
    batch: int = 1
    length: int = 512
    checkpointing: bool = False
    is_gpu: bool = True

    @property
    def compute_bytes(self) -> int:
        return 4 if self.precision == "fp32" else 2


def parts_of(shape: Shape, plan: Plan) -> dict[str, float]:
    """Bytes by part. Sums of tensors at the worst moment of a step, with attention that keeps no scores (sdpa, flash)."""
    weight = WEIGHT_BYTES[plan.precision]
    words = shape.vocabulary * shape.hidden
    if plan.precision in ("int8", "int4"):
        # embeddings and the head stay in 16 bit
        weights = 2.0 * min(words, shape.parameters) + weight * max(0, shape.parameters - words)
    else:
        weights = weight * shape.parameters
    trained = trained_parameters(shape, plan)
    tokens = plan.batch * plan.length
    parts = {"weights": weights}
    if plan.method == "inference":
        cache = 2 * shape.layers * shape.key * plan.compute_bytes * tokens
        parts["cache"] = cache
        parts["activations"] = _layer_bytes(shape, plan) * tokens + plan.batch * shape.vocabulary * 8.0
    else:
        # adapters are kept in 32 bit, whatever the weights are
        own = 4.0 if plan.method == "lora" else weight
        if plan.method == "lora":
            parts["adapters"] = own * trained
        parts["gradients"] = own * trained
        state = OPTIMIZERS[plan.optimizer]
        parts["optimizer"] = trained * (state if plan.optimizer in FIXED_TYPE else state * own / 4)
        # autocast keeps a copy of each weight in 16 bit until the backward pass has used it
        copies = 2.0 * shape.parameters if plan.precision == "mixed" else 0.0
        parts["activations"] = copies + _activation_bytes(shape, plan) * tokens
    allocated = sum(parts.values())
    parts["overhead"] = FRAGMENTATION * allocated + (CONTEXT_BYTES if plan.is_gpu else 0)
    return parts


def trained_parameters(shape: Shape, plan: Plan) -> int:
    """All, or those of adapters on every linear layer."""
    if plan.method == "inference":
        return 0
    if plan.method == "full":
        return shape.parameters
    attention = 2 * (shape.hidden + shape.query) + 2 * (shape.hidden + shape.key)
    forward = (3 if shape.is_gated else 2) * (shape.hidden + shape.inner)
    return plan.rank * shape.layers * (attention + forward)


def _layer_bytes(shape: Shape, plan: Plan) -> float:
    """What one layer keeps of one token for the backward pass."""
    size = plan.compute_bytes
    # the inputs of the projections, of attention and its result
    attention = size * (2 * shape.hidden + 3 * shape.query + 4 * shape.key)
    forward = size * (shape.hidden + (4 if shape.is_gated else 2) * shape.inner)
    # norms work in 32 bit
    norms = 2 * shape.hidden * (4 + 4)
    adapters = size * 7 * plan.rank if plan.method == "lora" else 0
    return attention + forward + norms + adapters


def _activation_bytes(shape: Shape, plan: Plan) -> float:
    """Of one token: its layers, and the scores of the vocabulary in 32 bit with their gradient."""
    layer = _layer_bytes(shape, plan)
    kept = plan.compute_bytes * shape.hidden * shape.layers + layer if plan.checkpointing else layer * shape.layers
    scores = shape.vocabulary * (12.0 if plan.compute_bytes == 4 else 14.0) if shape.has_logits else 0.0
    return kept + scores


def easier(plan: Plan) -> list[tuple[str, Plan]]:
    """Changes that save memory, the least painful first; each builds on those before it."""
    steps: list[tuple[str, Plan]] = []
    if plan.method != "inference":
        if not plan.checkpointing:
            plan = dataclasses.replace(plan, checkpointing=True)
            steps.append(("--checkpointing (activation_checkpointing=True)", plan))
        if plan.batch > 1:
            plan = dataclasses.replace(plan, batch=1)
            steps.append(("--batch 1 (with gradient_accumulation_steps)", plan))
        if plan.method == "full" and plan.optimizer == "adamw":
            plan = dataclasses.replace(plan, optimizer="adamw8bit")
            steps.append(("--optimizer adamw8bit", plan))
        if plan.method == "full":
            plan = dataclasses.replace(plan, method="lora", precision="bf16", optimizer="adamw")
            steps.append(("--method lora", plan))
    if plan.precision not in ("int8", "int4"):
        plan = dataclasses.replace(plan, precision="int4")
        steps.append(("--precision int4", plan))
    if plan.length > 512:
        steps.append(("--length 512", dataclasses.replace(plan, length=512)))
    return steps


def _needed(steps: list[str]) -> list[str]:
    """Adapters make another optimizer needless."""
    return [step for step in steps if not (step.startswith("--optimizer") and "--method lora" in steps)]


def gpu_here(given: argparse.Namespace) -> tuple[str, float | None]:
    """Name and bytes of what it must fit; None when there is nothing to compare with."""
    if given.memory is not None:
        return f"{given.memory:g} GiB", given.memory * GIB
    if given.gpu is not None:
        name = given.gpu.upper().replace("_", "-")
        name = {"A100": "A100-40GB", "A100-80": "A100-80GB"}.get(name, name)
        if name not in GPUS:
            raise Unanswerable(f"--gpu knows {', '.join(GPUS)}: for {given.gpu} give --memory in GiB")
        return name, GPUS[name] * 2**20
    seen = [gpu for gpu in gpu_report.gpus() if gpu["memory_gib"]]
    if not seen:
        return "no GPU here", None
    smallest = min(seen, key=lambda gpu: gpu["memory_gib"])
    return smallest["name"], smallest["memory_gib"] * GIB


def answer(given: argparse.Namespace) -> dict:
    """The question's answer; raises Unanswerable."""
    if given.model is None and given.parameters is None:
        raise Unanswerable("give a model or --parameters")
    number = None if given.parameters is None else model_shape.parameters_from(given.parameters)
    if given.model is None:
        shape = model_shape.guessed_shape(number or 0)
    else:
        folder = model_shape.folder_of(given.model, given.download)
        try:
            config = json.loads((folder / "config.json").read_text())
            if not isinstance(config, dict):
                raise ValueError("it is no object")
            counted = number or model_shape.counted_parameters(folder)
        except (OSError, ValueError, struct.error, KeyError) as error:
            raise Unanswerable(f"the files of {given.model} cannot be read: {error}") from error
        shape = model_shape.shape_of(config, counted, "given" if number else "counted in its weights" if counted else "")
    precision = given.precision or PRECISIONS[given.method]
    if given.method == "full" and precision in ("int8", "int4"):
        raise Unanswerable(f"weights in {precision} cannot be trained: --method lora trains adapters beside them")
    plan = Plan(given.method, precision, given.optimizer, given.rank, given.batch, given.length, given.checkpointing)
    name, room = gpu_here(given)
    parts = parts_of(shape, plan)
    total = sum(parts.values())
    error = ERROR_BY_SIZE_ONLY if shape.is_guess else ERROR
    helps = next((step for step in enumerate(easier(plan), 1) if room and sum(parts_of(shape, step[1][1]).values()) <= room), None)
    return {
        "parameters": shape.parameters,
        "parameters_are": shape.source,
        "trained": trained_parameters(shape, plan),
        "plan": {name: value for name, value in dataclasses.asdict(plan).items() if name != "is_gpu"},
        "gib": {part: round(size / GIB, 3) for part, size in parts.items()},
        "total_gib": round(total / GIB, 3),
        "error": error,
        "gpu": name,
        "gpu_gib": None if room is None else round(room / GIB, 2),
        "fits": None if room is None else total <= room,
        "helps": _needed([text for text, _ in easier(plan)[: helps[0]]]) if helps and total > (room or 0) else [],
    }


def lines_of(found: dict, title: str) -> list[str]:
    """The answer for a reader."""
    plan, total, room = found["plan"], found["total_gib"], found["gpu_gib"]
    method = f"lora r={plan['rank']}" if plan["method"] == "lora" else plan["method"]
    words = [method, plan["precision"], f"batch {plan['batch']} x {plan['length']} tokens"]
    if plan["method"] != "inference":
        words += [plan["optimizer"], f"checkpointing {'on' if plan['checkpointing'] else 'off'}"]
    lines = [f"{title}: {found['parameters'] / 1e9:.3g} billion parameters ({found['parameters_are']})", ", ".join(words)]
    lines += [f"  {part:<12}{size:8.2f} GiB" for part, size in found["gib"].items()]
    lines.append(f"  {'total':<12}{total:8.2f} GiB")
    percent = round(found["error"] * 100)
    if room is None:
        lines.append("There is no GPU here: --gpu names one to compare with.")
    elif not found["fits"]:
        lines.append(f"Does NOT fit {found['gpu']}, which has {room:g} GiB.")
        lines.append(f"It would with: {', '.join(found['helps'])}" if found["helps"] else "Nothing that this script knows makes it fit.")
    elif total * (1 + found["error"]) > room:
        lines.append(f"May fit {found['gpu']}, which has {room:g} GiB, but closely: try five steps with the longest rows first.")
    else:
        lines.append(f"Fits {found['gpu']}, which has {room:g} GiB.")
    reason = ", and the shape is guessed from the size" if percent > 25 else ""
    lines.append(f"This is an estimate: the truth lies within about {percent} % of it{reason}.")
    return lines


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main() -> None:
    parser = argparse.ArgumentParser(prog="fit_check.py", description="Does this model fit the GPU? An estimate, part by part.")
    parser.add_argument("model", nargs="?", help="a folder, a config.json, or an id in the Hub's cache")
    parser.add_argument("--parameters", metavar="7B", help="in place of a model, or of its own count")
    parser.add_argument("--method", choices=tuple(PRECISIONS), default="full")
    parser.add_argument("--precision", choices=tuple(WEIGHT_BYTES), help="of the weights; mixed: fp32, computed in 16 bit")
    parser.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="adamw")
    parser.add_argument("--rank", type=positive, default=16, help="of LoRA's adapters")
    parser.add_argument("--batch", type=positive, default=1, help="rows at once on the GPU, without accumulation")
    parser.add_argument("--length", type=positive, default=512, help="tokens of a row, with its answer when generating")
    parser.add_argument("--checkpointing", action="store_true", help="activation checkpointing")
    parser.add_argument("--gpu", help=f"one of {', '.join(GPUS)}; default: the GPU that is here")
    parser.add_argument("--memory", type=float, metavar="GiB", help="in place of --gpu")
    parser.add_argument("--download", action="store_true", help="fetch the config of a model that is not in the cache")
    parser.add_argument("--json", action="store_true", help="one JSON object; sizes are in GiB")
    given = parser.parse_args()
    try:
        found = answer(given)
    except Unanswerable as error:
        parser.error(str(error))
    print(json.dumps(found) if given.json else "\n".join(lines_of(found, given.model or f"{given.parameters} parameters")))
    sys.exit(1 if found["fits"] is False else 0)


if __name__ == "__main__":
    main()
