"""The engine settings of a catalog entry, sorted: what shapes the plan, and what travels on as flags. Pure.

What a catalog may set at all, and how each is spelled, is the registry's (`pareta_registry.engine_flags`).
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
    """None leaves a choice to the planner; the caps are upper limits. `refused` are reasons not to plan."""

    dtype: str | None = None
    kv_cache_dtype: str | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    flags: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def read_settings(settings: Mapping[str, Any]) -> PlannerSettings:
    """Reads a catalog's mapping. `auto` means what leaving a setting out means."""
    refused = tuple(f"{name}: {why}" for name in sorted(settings) if (why := refusal(name, settings[name])))
    if refused:
        return PlannerSettings(refused=refused)
    planned = {name: value for name, value in settings.items() if name in _PLANNED and value != "auto"}
    if "dtype" in planned:
        planned["dtype"] = _DTYPES.get(planned["dtype"], planned["dtype"])
    flags = argv({name: value for name, value in settings.items() if name not in _PLANNED})
    return PlannerSettings(**planned, flags=flags)
