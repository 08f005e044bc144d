"""How long a text an imported model takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.tiny_encoder import POSITIONS, TOKENS, write_tiny_encoder
from fakes.tiny_gguf import write_tiny_gguf

from pareta_registry.importers.hf_checkpoint import import_checkpoint


def context(checkpoint: Path, tmp_path: Path) -> int:
    return int(import_checkpoint(str(checkpoint), tmp_path / "artifact")["context"])


def test_learned_positions_end_where_the_tokenizer_does(tmp_path: Path) -> None:
    """bge-reranker's shape; what its configuration calls positions stays a fact of its architecture."""
    document = import_checkpoint(str(write_tiny_encoder(tmp_path / "a")), tmp_path / "artifact")
    assert document["context"] == TOKENS
    assert document["architecture"]["max_position_embeddings"] == POSITIONS


@pytest.mark.parametrize(
    ("tokenizer", "config", "expected"),
    [
        ({}, {}, 512),
        ({"model_max_length": 1e30}, {"position_embedding_type": None}, 512),
        ({"model_max_length": 128}, {"position_embedding_type": None}, 128),
        ({}, {"pad_token_id": None}, 512),
        ({}, {"pad_token_id": 0}, 513),
        ({}, {"model_type": "bert"}, 514),
        ({"model_max_length": 512}, {"model_type": "bert"}, 512),
        ({"model_max_length": "none"}, {"model_type": "camembert"}, 512),
    ],
)
def test_positions_behind_the_padding_tokens_are_left_out(
    tmp_path: Path, tokenizer: dict[str, object], config: dict[str, object], expected: int
) -> None:
    """Of RoBERTa's families, whatever the tokenizer says; other tables are whole."""
    checkpoint = write_tiny_encoder(tmp_path / "a", **config)
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert context(checkpoint, tmp_path) == expected


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta"])
def test_every_kind_of_sentence_transformer_says_its_length(tmp_path: Path, name: str) -> None:
    """The files that engines look for."""
    checkpoint = write_tiny_encoder(tmp_path / "a")
    (checkpoint / f"sentence_{name}_config.json").write_text('{"max_seq_length": 256}')
    assert context(checkpoint, tmp_path) == 256


def test_a_decoders_tokenizer_does_not_limit_it(tmp_path: Path) -> None:
    """With rotary positions its word is often old, and engines do not ask for it."""
    whole = import_checkpoint(str(write_tiny_gguf(tmp_path / "tiny.gguf")), tmp_path / "tiny")["context"]
    (tmp_path / "tiny" / "tokenizer_config.json").write_text('{"model_max_length": 16}')
    assert context(tmp_path / "tiny", tmp_path) == whole
