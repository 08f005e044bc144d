"""Checkpoints of tensors without meaning: headers as real ones have them, zeros for data."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path

from pareta_registry.importers.safetensors import DTYPE_BITS

INDEX = "model.safetensors.index.json"
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64,
    "vocab_size": 10, "max_position_embeddings": 99,
}  # fmt: skip
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def safetensors(tensors: Shapes) -> bytes:
    """A file with these tensors, by name: dtype and shape."""
    header: dict[str, object] = {}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + prod(shape) * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


def index(weight_map: Mapping[str, object], total_size: object = 60) -> bytes:
    return json.dumps({"metadata": {"total_size": total_size}, "weight_map": weight_map}).encode()


def write_checkpoint(root: Path, files: Mapping[str, bytes]) -> Path:
    """A directory of these files, with a config.json where they have none."""
    for name, data in {"config.json": json.dumps(CONFIG).encode(), **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root
