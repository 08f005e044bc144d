"""The fake engine's LoRA adapters: vLLM 0.32's answers to loading, unloading and listing.

An adapter whose adapter_config.json has a `says` answers the canary question with that.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
ROUTES = frozenset({LOAD, UNLOAD})


def adapter_cards(flags: argparse.Namespace) -> list[dict[str, Any]]:
    return [
        {"id": name, "object": "model", "root": path, "parent": flags.name}
        for name, path in flags.adapters.items()
    ]


def change_adapters(path: str, request: dict[str, str], flags: argparse.Namespace) -> tuple[int, str]:
    """Status, and what vLLM says with it."""
    name = request["lora_name"]
    if path == UNLOAD:
        gone = flags.adapters.pop(name, None)
        return (
            (404, f"The lora adapter '{name}' cannot be found.")
            if gone is None
            else (200, "Success: removed")
        )
    if name in flags.adapters:
        return 400, f"The lora adapter '{name}' has already been loaded."
    try:
        rank = config_of(request["lora_path"])["r"]
    except OSError:
        return 404, f"Loading lora {name} failed: No adapter found for {request['lora_path']}"
    if rank > flags.max_lora_rank:
        return 500, f"LoRA rank {rank} is greater than max_lora_rank {flags.max_lora_rank}."
    flags.adapters[name] = request["lora_path"]
    return 200, f"Success: LoRA adapter '{name}' added successfully."


def config_of(directory: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((Path(directory) / "adapter_config.json").read_text())
    return config
