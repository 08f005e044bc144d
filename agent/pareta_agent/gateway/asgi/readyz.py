"""Readiness: whether the node may receive traffic, with every reason against traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Readiness:
    """`degraded`: the node answers with a part lost for good. `reasons` are empty if `ok`."""

    status: Literal["ok", "degraded", "not ready"]
    reasons: Sequence[str] = ()
