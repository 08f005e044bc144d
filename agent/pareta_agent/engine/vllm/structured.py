"""Structured outputs: selects vLLM's grammar backend, and compact JSON. Pure.

Where a grammar allows whitespace between tokens of JSON, a small model may generate newlines until `max_tokens`. vLLM
turns that off for the backends `xgrammar` and `guidance` alone, so `auto` is no choice. With `auto` the first
structured call of an engine's life also selects the backend of all later calls.
"""

from __future__ import annotations

import json
from typing import Any, Final

_FLAG: Final = "--structured-outputs-config"
_COMPACT: Final = ("xgrammar", "guidance")


def settled(flags: tuple[str, ...]) -> list[str]:
    """The catalog's flags with the whole structured-outputs config; what the catalog sets wins."""
    asked: dict[str, Any] = {}
    rest = list(flags)
    if _FLAG in rest:
        at = rest.index(_FLAG)
        asked = json.loads(rest[at + 1])
        del rest[at : at + 2]
    config = {"backend": "xgrammar"} | asked
    if config["backend"] in _COMPACT:
        config = {"disable_any_whitespace": True} | config
    return [_FLAG, json.dumps(config, sort_keys=True), *rest]
