"""What the operator may turn about the weights, and what the store tells while it works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pareta_registry.keys import PublicKey
from pareta_registry.stores import StoreSettings


@dataclass(frozen=True, slots=True)
class WeightsSettings:
    """`root` holds verified artifacts, `cache_dir` what was made from packages (several agents may share both).

    `reserve_bytes` of the disk are never used. A fetch uses `connections` at a time, each a part of
    `part_bytes`; a connection that brings nothing for `stall_timeout_s` is cut; a part is tried
    `part_attempts` times. `lock_timeout_s` bounds the wait for another process that fetches the same.
    `pip` is the command that downloads packages; `stores` says how remote stores are reached. With `trusted` keys
    only artifacts that one of them signed are taken.
    """

    root: Path
    cache_dir: Path
    reserve_bytes: int = 1 << 30
    connections: int = 8
    part_bytes: int = 16 << 20
    stall_timeout_s: float = 30.0
    part_attempts: int = 6
    lock_timeout_s: float = 6 * 3600.0
    pip: tuple[str, ...] = (sys.executable, "-m", "pip")
    pip_timeout_s: float = 1800.0
    stores: StoreSettings = field(default_factory=StoreSettings)
    trusted: tuple[PublicKey, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightsProgress:
    """How far a phase is: bytes on disk (`fetch`) or hashed (`verify`) of all the artifact's bytes.

    What an earlier attempt had left counts as done from the start. `detail` says what else is going on.
    """

    phase: Literal["fetch", "verify"]
    done_bytes: int
    total_bytes: int
    detail: str = ""


OnProgress = Callable[[WeightsProgress], None]
