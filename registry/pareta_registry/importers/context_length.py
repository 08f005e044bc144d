"""Context length: calculates the longest text that a checkpoint takes, in tokens, from positions and tokenizer files.

Engines apply the same limit to encoders (vLLM: config/model.py, get_and_verify_max_len).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pareta_registry.importers.safetensors import TensorInfo

_TABLE = "position_embeddings.weight"
_PADDED = ("roberta", "camembert", "mpnet", "xmod", "data2vec-text", "longformer", "esm")
"""Families with positions that begin after the padding token's: a table of 514 rows is for 512 tokens."""
_SENTENCE = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")


def context_tokens(
    root: Path, config: Mapping[str, Any], tensors: Sequence[TensorInfo], positions: int
) -> int:
    """The context of a model with `positions` positions. The tokenizer's limit counts for learned positions."""
    limits: list[float] = [positions, _sentence_tokens(root)]
    learned = any(tensor.name.endswith(_TABLE) and tensor.shape[0] == positions for tensor in tensors)
    if learned or config.get("position_embedding_type") == "absolute":
        limits.append(_number(root / "tokenizer_config.json", "model_max_length"))
    if learned and any(family in str(config.get("model_type")) for family in _PADDED):
        padding = config.get("pad_token_id")
        limits.append(positions - 1 - (padding if isinstance(padding, int) else 1))
    return max(1, int(min(limits)))


def _sentence_tokens(root: Path) -> float:
    """The longest text in the training of a sentence transformer, which engines use as context."""
    return min(_number(root / f"sentence_{name}_config.json", "max_seq_length") for name in _SENTENCE)


def _number(path: Path, field: str) -> float:
    """A positive number in a JSON file; infinite without a number."""
    try:
        reported = json.loads(path.read_bytes()).get(field)
    except (OSError, ValueError, AttributeError):
        return math.inf
    return reported if isinstance(reported, int | float) and reported >= 1 else math.inf
