"""What the pages of the skills speak of, made tiny: models with random weights and datasets, where the sandbox has them.

Models lie in the Hub's cache below HF_HOME under their real ids, so that `from_pretrained` finds them without a network.
"""

import json
import math
import os
import pathlib
import struct
import wave

import torch

REVISION = "0" * 40
SENTENCES = [f"{who} {did} {what}" for who in ("a cat", "a dog", "the film") for did in ("likes", "was") for what in ("good", "bad")]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_all(app: pathlib.Path) -> None:
    torch.manual_seed(0)
    save("Qwen/Qwen3-0.6B", causal_model(), chat_tokenizer())
    save("distilbert/distilbert-base-uncased", masked_model(), word_tokenizer())
    save("google/vit-base-patch16-224-in21k", *image_parts())
    save("facebook/wav2vec2-base", *audio_parts())
    make_data(app / "data")


def save(model_id: str, *parts) -> None:
    folder = pathlib.Path(os.environ["HF_HOME"], "hub", f"models--{model_id.replace('/', '--')}")
    snapshot = folder / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(REVISION)
    for part in parts:
        part.save_pretrained(snapshot)


def causal_model():
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=320, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8, max_position_embeddings=512, eos_token_id=1, pad_token_id=0,
        )
    )


def chat_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_end|>", "<|im_start|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    words = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **words)
    made.chat_template = CHAT_TEMPLATE
    return made


def masked_model():
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    return DistilBertForMaskedLM(
        DistilBertConfig(vocab_size=64, dim=16, hidden_dim=32, n_layers=1, n_heads=2, max_position_embeddings=64)
    )


def word_tokenizer():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=64, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    ends = [(word, tokenizer.token_to_id(word)) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    words = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokens = {f"{name}_token": word for name, word in words.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **tokens)


def image_parts():
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    size = {"height": 16, "width": 16}
    sizes = {"image_size": 16, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32}
    config = ViTConfig(num_hidden_layers=1, num_attention_heads=2, **sizes)
    return ViTForImageClassification(config), ViTImageProcessor(size=size)


def audio_parts():
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

    config = Wav2Vec2Config(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_feat_extract_layers=3,
        conv_dim=(8, 8, 8), conv_stride=(5, 4, 4), conv_kernel=(10, 4, 4), num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, classifier_proj_size=8, mask_time_length=2,
    )
    return Wav2Vec2ForSequenceClassification(config), Wav2Vec2FeatureExtractor()


def make_data(folder: pathlib.Path) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    rows = [{"text": sentence, "label": int(sentence.endswith("good"))} for sentence in SENTENCES] * 4
    write_lines(folder / "train.jsonl", rows)
    write_lines(folder / "test.jsonl", rows[:8])
    chats = [
        {"messages": [{"role": "user", "content": f"what of {row['text']}"}, {"role": "assistant", "content": row["text"]}]}
        for row in rows
    ]
    write_lines(folder / "chat.jsonl", chats)
    for number, name in enumerate(("cat", "dog")):
        for index in range(4):
            path = folder / "images" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (200 * number, 10 * index, 50)).save(path)
            sound(folder / "sounds" / name / f"{index}.wav", 200 + 300 * number)


def sound(path: pathlib.Path, hertz: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        values = (int(9000 * math.sin(2 * math.pi * hertz * n / 16000)) for n in range(4000))
        file.writeframes(b"".join(struct.pack("<h", value) for value in values))


def write_lines(path: pathlib.Path, rows: list) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
