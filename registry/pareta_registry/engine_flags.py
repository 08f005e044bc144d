"""Engine flags: lists the engine settings that a catalog may contain, and converts settings to command line options.

An allowlist: settings that reach files, the network, plugins or code are refused. The planner's decisions
(parallelism, memory, batch caps) are refused too, except upper limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["flag", "int", "number", "text", "json"]

ALLOWED: Mapping[str, Kind] = {
    "chat_template_content_format": "text",
    "compilation_config": "json",
    "default_chat_template_kwargs": "json",
    "dtype": "text",
    "enable_auto_tool_choice": "flag",
    "enable_chunked_prefill": "flag",
    "enable_prefix_caching": "flag",
    "generation_config": "text",
    "hf_overrides": "json",
    "kv_cache_dtype": "text",
    "limit_mm_per_prompt": "json",
    "long_prefill_token_threshold": "int",
    "max_logprobs": "int",
    "max_num_batched_tokens": "int",
    "max_num_seqs": "int",
    "override_generation_config": "json",
    "quantization": "text",
    "reasoning_parser": "text",
    "seed": "int",
    "speculative_config": "json",
    "structured_outputs_config": "json",
    "tokenizer_mode": "text",
    "tool_call_parser": "text",
}


def refusal(name: str, value: Any) -> str | None:
    """The reason for which a catalog must not contain this setting; None for an allowed setting."""
    kind = ALLOWED.get(name)
    if kind is None:
        return "not an engine setting that a catalog may contain"
    if kind == "flag":
        return None if isinstance(value, bool) else "must be true or false"
    if kind == "json":
        return None if isinstance(value, dict) and _is_json(value) else "must be a mapping of plain values"
    if kind == "text":
        return _text_refusal(value)
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else (int, float)) or value < 0:
        return "must be a whole number, zero or more" if kind == "int" else "must be a number, zero or more"
    return None


def argv(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Allowed settings as engine arguments, sorted by name; a false flag becomes `--no-…`."""
    words: list[str] = []
    for name in sorted(settings):
        value = settings[name]
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [
                f"--{option}",
                json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value),
            ]
    return tuple(words)


def _text_refusal(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return "must be text"
    if not all(letter.isascii() and (letter.isalnum() or letter in "_.-") for letter in value):
        return "may hold only letters, digits, '.', '_' and '-' (never a path or an address)"
    return "must not start with '-'" if value.startswith("-") else None


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        return False
    return True
