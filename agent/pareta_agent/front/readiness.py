"""Readiness: whether the node should get traffic, and every reason against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Readiness:
    """`degraded`: it answers, but something of it is lost for good. `reasons` are empty when it is `ok`."""

    status: Literal["ok", "degraded", "not ready"]
    reasons: Sequence[str] = ()
