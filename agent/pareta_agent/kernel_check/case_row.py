"""Case row: stores one kernel in one case, and measures the error of a result.

Used by `program.py` in the engine's interpreter; never imported by the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

LIMITS = {"float32": 2e-3, "float16": 1e-2, "bfloat16": 3e-2}
"""Largest error over the largest reference value. Rounding alone gives half an ulp a step (2^-9 in bfloat16, 2^-12 in
float16, 2^-11 in float32 where a GPU computes it in TF32); sound kernels stay within 2 of them, and the limits are at
15, 40 and 4."""
PENDING = "pending"
CRASHED = 1e9
"""The error of a kernel that ended its process or returned NaN or infinity."""


@dataclass(frozen=True)
class Row:
    """`error` None: the kernel did not run, for the reason in `detail`."""

    op: str
    backend: str
    dtype: str
    case: str
    limit: float
    error: float | None = None
    detail: str = ""


def relative(found: Any, reference: Any) -> float:
    """Largest deviation over the largest reference value; `CRASHED` for NaN and infinity."""
    error = (found.float() - reference).abs().max() / reference.abs().max()
    return float(error) if bool(error.isfinite()) else CRASHED


def measured(row: Row, error_of: Callable[[], float]) -> Iterator[Row]:
    """The row as pending, then with its error."""
    yield replace(row, detail=PENDING)
    try:
        yield replace(row, error=round(error_of(), 6))
    except Exception as error:  # a kernel that this build or hardware lacks is not wrong
        yield replace(row, detail=described(error))


def described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
