"""Weights settings: holds the operator's settings of the store, and the progress that the store reports."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pareta_registry.signing.keys import PublicKey
from pareta_registry.stores import StoreSettings


@dataclass(frozen=True, slots=True)
class WeightsSettings:
    """Settings of the weights store.

    `root`: directory of verified artifacts. `cache_dir`: artifacts made from packages; several agents may share the
    directory. `reserve_bytes` of the disk are never used. A fetch reads `connections` parts of `part_bytes` at a
    time. A connection without a byte for `stall_timeout_s` is closed. A part has `part_attempts` attempts.
    `lock_timeout_s` bounds the wait for another process with the same artifact. `pip` is the command that downloads
    packages. `stores` configures remote stores. With `trusted` keys, only signed artifacts are accepted.
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
    """Progress of a phase: bytes on disk (`fetch`) or hashed (`verify`) of all bytes of the artifact.

    Bytes left by an earlier attempt count from the start. `detail` names other work under way.
    """

    phase: Literal["fetch", "verify"]
    done_bytes: int
    total_bytes: int
    detail: str = ""


OnProgress = Callable[[WeightsProgress], None]
