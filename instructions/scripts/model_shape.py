"""What of a transformers model decides its memory: from its config.json, its weights, or its size alone. For fit_check.py."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import re
import struct
import tempfile
import urllib.error
import urllib.request

# feed-forward layers of two matrices; all others are taken for gated ones, of three
UNGATED = re.compile(
    r"(?<!modern)bert|electra|vit|wav2vec|hubert|whisper|gpt2|gpt_?(?:neo|j|big)|opt|bloom|falcon|clip|deit|beit|bart|pegasus|marian|phi$"
)


class Unanswerable(Exception):
    """The question itself is wrong or lacks something: what to do is in the text."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What of a model decides its memory."""

    parameters: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    is_gated: bool
    has_logits: bool
    # where the number of parameters comes from
    source: str
    is_guess: bool = False

    @property
    def query(self) -> int:
        return self.heads * self.head_size

    @property
    def key(self) -> int:
        return self.kv_heads * self.head_size


def shape_of(config: dict, parameters: int | None = None, source: str = "") -> Shape:
    """From a config.json; `parameters` when they were counted elsewhere. Raises Unanswerable when it has no sizes."""
    whole = config
    for name in ("text_config", "llm_config", "language_config", "thinker_config"):
        if isinstance(config.get(name), dict):
            config = {**config, **config[name]}
    hidden = _first(config, "hidden_size", "n_embd", "d_model", "dim")
    layers = _first(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
    if hidden is None or layers is None:
        raise Unanswerable("the config has no hidden_size and num_hidden_layers: give --parameters")
    heads = _first(config, "num_attention_heads", "n_head", "n_heads", "encoder_attention_heads", "num_heads") or 1
    inner = _first(config, "intermediate_size", "n_inner", "hidden_dim", "encoder_ffn_dim", "d_ff", "ffn_dim") or 4 * hidden
    kind = str(whole.get("model_type", ""))
    vocabulary = _first(config, "vocab_size") or 0
    heads_of_words = re.compile(r"CausalLM|LMHead|ConditionalGeneration|MaskedLM|Seq2Seq|ForPreTraining|ImageTextToText")
    shape = Shape(
        parameters=parameters or 0,
        hidden=hidden,
        layers=layers + (_first(config, "decoder_layers") or 0),
        heads=heads,
        kv_heads=_first(config, "num_key_value_heads") or heads,
        head_size=_first(config, "head_dim") or max(1, hidden // heads),
        inner=inner,
        vocabulary=vocabulary,
        is_gated=not UNGATED.search(kind),
        has_logits=bool(vocabulary) and any(heads_of_words.search(name) for name in whole.get("architectures") or []),
        source=source or "computed from the config",
    )
    if parameters:
        return shape
    return dataclasses.replace(shape, parameters=_count(shape, config))


def _first(config: dict, *names: str) -> int | None:
    return next((config[name] for name in names if isinstance(config.get(name), int) and config[name] > 0), None)


def _count(shape: Shape, config: dict) -> int:
    """Parameters of a transformer: embeddings, and in each layer attention, feed-forward and two norms."""
    attention = shape.hidden * (2 * shape.query + 2 * shape.key)
    experts = _first(config, "num_experts", "num_local_experts", "n_routed_experts")
    inner = (_first(config, "moe_intermediate_size") or shape.inner) if experts else shape.inner
    shared = _first(config, "n_shared_experts") or 0
    forward = (3 if shape.is_gated else 2) * shape.hidden * inner * ((experts or 1) + shared)
    crossed = (_first(config, "decoder_layers") or 0) * attention
    is_tied = config.get("tie_word_embeddings", not shape.is_gated)
    words = shape.vocabulary * shape.hidden * (1 if is_tied or not shape.has_logits else 2)
    positions = 0 if shape.is_gated else (_first(config, "max_position_embeddings", "n_positions") or 0) * shape.hidden
    return words + positions + crossed + shape.layers * (attention + forward + 4 * shape.hidden)


def guessed_shape(parameters: int) -> Shape:
    """Of a decoder of that size, as they are usually built: 128 wide for each layer, and a large vocabulary."""
    layers = max(2, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = max(64, round(math.sqrt(parameters / (12 * layers)) / 64) * 64)
    heads = max(1, hidden // 128)
    inner = round(hidden * 8 / 3)
    return Shape(parameters, hidden, layers, heads, max(1, heads // 4), min(128, hidden), inner, 128_000, True, True, "given", True)


def parameters_from(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMBT]?)", text.strip(), re.IGNORECASE)
    number = float(match[1]) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[match[2].upper()] if match else 0
    if number < 1:
        raise Unanswerable(f"--parameters is a number such as 350M or 7B, and not {text!r}")
    return int(number)


def folder_of(model: str, download: bool) -> pathlib.Path:
    """Where the model's config.json lies: a folder, a file's folder, or the Hub's cache."""
    path = pathlib.Path(model).expanduser()
    if path.is_file():
        return path.parent
    if (path / "config.json").is_file():
        return path
    if path.exists() or not re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", model):
        raise Unanswerable(f"{model} has no config.json, and is no id of the Hub: give a folder, or --parameters")
    cached = _cached(model)
    if cached is None and download:
        return _fetch(model)
    if cached is None:
        raise Unanswerable(f"{model} is not in the cache {_cache()}: --download fetches its config, or give --parameters")
    return cached


def _cache() -> pathlib.Path:
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return pathlib.Path(os.environ.get("HF_HUB_CACHE") or pathlib.Path(home, "hub")).expanduser()


def _cached(model: str) -> pathlib.Path | None:
    snapshots = _cache() / f"models--{model.replace('/', '--')}" / "snapshots"
    with_config = [path.parent for path in snapshots.glob("*/config.json")]
    return max(with_config, key=lambda path: path.stat().st_mtime, default=None)


def _fetch(model: str) -> pathlib.Path:
    origin = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    token = os.environ.get("HF_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{origin}/{model}/resolve/main/config.json", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read(2**20)
    except urllib.error.HTTPError as error:
        raise Unanswerable(f"{origin} answers {error.code} for {model}: {error.read(500).decode(errors='replace')}") from error
    except OSError as error:
        raise Unanswerable(f"{origin} cannot be reached: {error}. Give --parameters") from error
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fit-check-"))
    (folder / "config.json").write_bytes(body)
    return folder


def counted_parameters(folder: pathlib.Path) -> int | None:
    """From the headers of the weights, where all of their files are there; None otherwise."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text()).get("weight_map", {}).values())
        files = [folder / name for name in sorted(names)]
    elif len(files) > 1:
        files = [file for file in files if file.name == "model.safetensors"]
    if not files or not all(file.is_file() for file in files):
        return None
    total = 0
    for file in files:
        with open(file, "rb") as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            if size > 100 * 2**20:
                return None
            header = json.loads(opened.read(size))
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        if any(entry["dtype"] not in ("F64", "F32", "F16", "BF16") for entry in entries):
            return None  # quantised: shapes are not those of the weights
        total += sum(math.prod(entry["shape"]) for entry in entries)
    return total
