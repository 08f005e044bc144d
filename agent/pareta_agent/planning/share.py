"""How engines without a GPU share a host's cores: in equal parts, within a NUMA node wherever that is possible. Pure.

Two that compute on all cores at once are slower than one after the other, for each step waits for its slowest thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pareta_agent.hardware.cores import Cores, ranges

Core = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """So many `threads` compute (None: the engine's own choice) on `cpus`; none: wherever the node may run."""

    threads: int | None
    cpus: tuple[int, ...] = ()

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}" if self.threads else ""
        return f"{threads} on CPUs {ranges(self.cpus)}".strip() if self.cpus else threads


def share(cores: Cores, engines: int, seat: int, threads: int | None = None) -> Share:
    """The part of the engine on that seat, of so many. `threads` as told, else one a physical core, but a CPU is left
    for the engine's server, or a token takes seconds.

    It is kept to its CPUs where such a one is among them; on fewer its processes would wait for each other.
    """
    mine = _parts(cores.nodes, engines)[seat]
    cpus = tuple(sorted(cpu for core in mine for cpu in core))
    at_once = len(cpus) * cores.at_once // cores.cpus
    threads = threads or max(1, min(len(mine), at_once - 1))
    return Share(threads, cpus if engines > 1 and len(cpus) > threads else ())


def _parts(nodes: Sequence[Sequence[Core]], count: int) -> list[Sequence[Core]]:
    if count <= len(nodes):
        return [[core for node in nodes[part::count] for core in node] for part in range(count)]
    parts = [0] * len(nodes)
    for _ in range(count):
        roomiest = max(range(len(nodes)), key=lambda node: len(nodes[node]) / (parts[node] + 1))
        parts[roomiest] += 1
    return [part for node, number in zip(nodes, parts, strict=True) for part in _split(node, number)]


def _split(node: Sequence[Core], parts: int) -> list[Sequence[Core]]:
    """Neighbours stay together, for they share a cache; with fewer cores than parts, some share one."""
    if parts > len(node):
        return [[node[part % len(node)]] for part in range(parts)]
    size = len(node)
    return [node[size * part // parts : size * (part + 1) // parts] for part in range(parts)]
