"""Host: reads cores and memory of this process, within the limits of the container."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from pareta_agent.hardware.cores import CGROUP, at_once


@dataclass(frozen=True, slots=True)
class Host:
    cpu_cores: int
    memory_bytes: int
    memory_available_bytes: int


def read_host(cgroup: Path = CGROUP) -> Host:
    """Usable cores and bytes of this process. Limits of the container count where they are lower."""
    memory = psutil.virtual_memory()
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    total, available = memory.total, memory.available
    if limit is not None and limit < total:
        total = limit
        available = min(available, max(0, limit - (used or 0) + _reclaimable(cgroup / "memory.stat")))
    return Host(at_once(len(os.sched_getaffinity(0)), cgroup), total, available)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # absent outside a cgroup v2, or the word `max`
        return None


def _reclaimable(file: Path) -> int:
    """Bytes of page cache that the kernel frees under pressure: used by the cgroup's account, yet available."""
    try:
        fields = dict(line.split() for line in file.read_text().splitlines())
        return int(fields.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0
