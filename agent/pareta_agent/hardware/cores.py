"""Cores: reads this process's CPUs, their NUMA nodes, and the number of CPUs that run at a time.

Source: the kernel's files. CPUs without an entry count as one node with one CPU a core.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
_SYSTEM: Final = Path("/sys/devices/system")


@dataclass(frozen=True, slots=True)
class Cores:
    """Physical cores by NUMA node, each as its CPUs; `at_once` CPUs run at a time."""

    nodes: tuple[tuple[tuple[int, ...], ...], ...]
    at_once: int

    @property
    def cpus(self) -> int:
        return sum(len(core) for node in self.nodes for core in node)


def read_cores(mine: Collection[int] | None = None, cgroup: Path = CGROUP, system: Path = _SYSTEM) -> Cores:
    """The cores of the CPUs `mine`; None: every CPU of this process."""
    left = set(os.sched_getaffinity(0) if mine is None else mine)
    limit = at_once(len(left), cgroup)
    nodes = []
    for cpulist in sorted((system / "node").glob("node*/cpulist"), key=_number):
        cpus = left & _read(cpulist)
        left -= cpus
        nodes.append(_physical(cpus, system))
    nodes.append(_physical(left, system))
    return Cores(tuple(node for node in nodes if node), limit)


def at_once(cpus: int, cgroup: Path = CGROUP) -> int:
    """The number of `cpus` CPUs that a container's quota lets run at a time."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):
        return cpus


def cores_near(
    nodes: Collection[int | None], mine: Collection[int], system: Path = _SYSTEM
) -> tuple[int, ...]:
    """The CPUs of `mine` in these NUMA nodes. Empty for an unknown node, or if the result would equal `mine`."""
    known = [_read(system / "node" / f"node{node}" / "cpulist") for node in set(nodes)]
    near = set[int]().union(*known) & set(mine)
    return tuple(sorted(near)) if all(known) and near != set(mine) else ()


def ranges(cpus: Iterable[int]) -> str:
    """CPUs in the kernel's notation: `0-3,8,10-11`."""
    runs = groupby(enumerate(sorted(cpus)), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for _, group in runs if (run := list(group))]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def _physical(cpus: Collection[int], system: Path) -> tuple[tuple[int, ...], ...]:
    cores: list[tuple[int, ...]] = []
    left = set(cpus)
    while left:
        first = min(left)
        siblings = _read(system / "cpu" / f"cpu{first}" / "topology" / "thread_siblings_list")
        core = left & (siblings | {first})
        left -= core
        cores.append(tuple(sorted(core)))
    return tuple(cores)


def _read(file: Path) -> set[int]:
    """The CPUs of a file in the notation of `ranges`; empty without such a file."""
    cpus: set[int] = set()
    try:
        for part in filter(None, file.read_text().strip().split(",")):
            first, _, last = part.partition("-")
            cpus |= set(range(int(first), int(last or first) + 1))
    except (OSError, ValueError):
        return set()
    return cpus


def _number(cpulist: Path) -> int:
    return int(cpulist.parent.name.removeprefix("node"))
