"""A tiny reranker of bge-reranker's shape: XLM-RoBERTa, whose 514 positions are for 512 tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HIDDEN, LAYERS, VOCAB, POSITIONS, TOKENS = 64, 2, 64, 514, 512
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
CONFIG = {
    "architectures": ["XLMRobertaForSequenceClassification"],
    "model_type": "xlm-roberta",
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCAB,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 1,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-05,
    "position_embedding_type": "absolute",
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "dtype": "float32",
}


def write_tiny_encoder(directory: Path, **config: object) -> Path:
    """A Hugging Face directory; `config` replaces fields, and leaves out those that are None."""
    directory.mkdir(parents=True)
    fields = {name: value for name, value in (CONFIG | config).items() if value is not None}
    (directory / "config.json").write_text(json.dumps(fields))
    (directory / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    (directory / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": TOKENS,
                "bos_token": "<s>",
                "cls_token": "<s>",
                "eos_token": "</s>",
                "sep_token": "</s>",
                "pad_token": "<pad>",
                "unk_token": "<unk>",
            }
        )
    )
    draw = np.random.default_rng(0)
    tensors = {name: draw.normal(0, 0.1, shape).astype(np.float32) for name, shape in _shapes().items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _tokenizer() -> dict[str, object]:
    """Words `w4` to `w63`, in the template of a pair."""
    words = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), VOCAB))]
    pieces = {name: {"SpecialToken": {"id": name, "type_id": 0}} for name in ("<s>", "</s>")}
    texts = {name: {"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")}
    single = [pieces["<s>"], texts["A"], pieces["</s>"]]
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": i,
                "content": word,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i, word in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, pieces["</s>"], texts["B"], pieces["</s>"]],
            "special_tokens": {
                name: {"id": name, "ids": [SPECIAL.index(name)], "tokens": [name]} for name in pieces
            },
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: i for i, word in enumerate(words)},
            "unk_token": "<unk>",
        },
    }


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "roberta.embeddings.word_embeddings.weight": (VOCAB, HIDDEN),
        "roberta.embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "roberta.embeddings.token_type_embeddings.weight": (1, HIDDEN),
        "classifier.out_proj.weight": (1, HIDDEN),
        "classifier.out_proj.bias": (1,),
    }
    linear = {"classifier.dense": (HIDDEN, HIDDEN)}
    norms = ["roberta.embeddings.LayerNorm"]
    for layer in (f"roberta.encoder.layer.{i}" for i in range(LAYERS)):
        linear |= {f"{layer}.attention.self.{name}": (HIDDEN, HIDDEN) for name in ("query", "key", "value")}
        linear[f"{layer}.attention.output.dense"] = (HIDDEN, HIDDEN)
        linear[f"{layer}.intermediate.dense"] = (2 * HIDDEN, HIDDEN)
        linear[f"{layer}.output.dense"] = (HIDDEN, 2 * HIDDEN)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}
    return shapes
