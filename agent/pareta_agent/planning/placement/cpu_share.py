"""Core shares: divides a host's cores between CPU engines, in equal parts and within NUMA nodes if possible. Pure.

Two engines that compute on all cores at once are slower than in sequence: each step waits for the slowest thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pareta_agent.hardware.cores import Cores, ranges

Core = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """`threads` is the number of compute threads; None: the engine's choice. `cpus` empty: all CPUs of the node."""

    threads: int | None
    cpus: tuple[int, ...] = ()

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}" if self.threads else ""
        return f"{threads} on CPUs {ranges(self.cpus)}".strip() if self.cpus else threads


def share(cores: Cores, engines: int, index: int, threads: int | None = None) -> Share:
    """The share of engine `index` of `engines`.

    `threads` None: a thread per physical core, with a CPU left for the engine's server, without which a token takes
    seconds. The engine is bound to its CPUs only if more CPUs than threads remain: otherwise its processes would wait
    for each other.
    """
    mine = _parts(cores.nodes, engines)[index]
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
    """Splits a node into parts of neighbouring cores, which share a cache.

    With more parts than cores, parts share a core.
    """
    if parts > len(node):
        return [[node[part % len(node)]] for part in range(parts)]
    size = len(node)
    return [node[size * part // parts : size * (part + 1) // parts] for part in range(parts)]
