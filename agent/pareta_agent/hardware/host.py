"""The host's part of the inventory: cores that this process may use, and memory, within its cgroup."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_NODES = Path("/sys/devices/system/node")


@dataclass(frozen=True, slots=True)
class Host:
    cpu_cores: int
    memory_bytes: int
    memory_available_bytes: int


def read_host(cgroup: Path = _CGROUP) -> Host:
    """Cores and bytes as this process may use them; a container's limits count where they are lower."""
    memory = psutil.virtual_memory()
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    total, available = memory.total, memory.available
    if limit is not None and limit < total:
        total = limit
        available = min(available, max(0, limit - (used or 0) + _reclaimable(cgroup / "memory.stat")))
    return Host(_cores(cgroup / "cpu.max"), total, available)


def _cores(quota_file: Path) -> int:
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = quota_file.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def cores_near(nodes: Collection[int | None], mine: Collection[int], root: Path = _NODES) -> tuple[int, ...]:
    """Those of `mine` that lie in these NUMA nodes; none where a node is unknown or the choice would change nothing."""
    near: set[int] = set()
    for node in set(nodes):
        try:
            near |= _listed((root / f"node{node}" / "cpulist").read_text())
        except (OSError, ValueError):
            return ()
    near &= set(mine)
    return tuple(sorted(near)) if near != set(mine) else ()


def _listed(cpulist: str) -> set[int]:
    """The kernel's way to write cores: `0-3,8,10-11`."""
    cores: set[int] = set()
    for part in filter(None, cpulist.strip().split(",")):
        first, _, last = part.partition("-")
        cores |= set(range(int(first), int(last or first) + 1))
    return cores


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # absent outside a cgroup v2, or the word `max`
        return None


def _reclaimable(file: Path) -> int:
    """Page cache that the kernel gives up under pressure counts as used by the cgroup, yet is available."""
    try:
        fields = dict(line.split() for line in file.read_text().splitlines())
        return int(fields.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0
