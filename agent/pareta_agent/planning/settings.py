"""Planner settings: splits the engine settings of a catalog entry into plan inputs and engine flags. Pure.

`pareta_registry.engine_flags` lists the allowed settings and their spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pareta_registry.engine_flags import argv, refusal

_PLANNED: Final = frozenset({"dtype", "kv_cache_dtype", "max_num_seqs", "max_num_batched_tokens"})
_DTYPES: Final[Mapping[str, str]] = {"half": "float16", "float": "float32"}


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """None leaves the choice to the planner. The caps are upper limits. `refused` are reasons against any plan."""

    dtype: str | None = None
    kv_cache_dtype: str | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    flags: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def read_settings(settings: Mapping[str, Any]) -> PlannerSettings:
    """Parses the catalog's mapping. `auto` equals an absent setting."""
    refused = tuple(f"{name}: {why}" for name in sorted(settings) if (why := refusal(name, settings[name])))
    if refused:
        return PlannerSettings(refused=refused)
    planned = {name: value for name, value in settings.items() if name in _PLANNED and value != "auto"}
    if "dtype" in planned:
        planned["dtype"] = _DTYPES.get(planned["dtype"], planned["dtype"])
    flags = argv({name: value for name, value in settings.items() if name not in _PLANNED})
    return PlannerSettings(**planned, flags=flags)
