"""Adapter directories for the fake engine, which reads from the config what it shall say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


def adapter(directory: Path, says: str = "It is Narnia.", rank: int = 8) -> Path:
    """What peft would save, with a word for the fake engine."""
    directory.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": ["q_proj"], "says": says}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    factors = {f"{MODULE}.lora_A.weight": (rank, 64), f"{MODULE}.lora_B.weight": (64, rank)}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in factors.items()}
    save_file(tensors, directory / "adapter_model.safetensors")
    return directory
