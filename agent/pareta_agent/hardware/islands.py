"""Which GPUs may work as one: identical, and how they are wired. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pareta_agent.hardware.inventory import Gpu


def identical(gpus: Iterable[Gpu]) -> list[tuple[Gpu, ...]]:
    """GPUs by model, compute capability and memory size, in the order first met: never mix two of these."""
    classes: dict[tuple[object, ...], list[Gpu]] = {}
    for gpu in gpus:
        kind = (gpu.name, gpu.compute_capability, gpu.memory_total_bytes, gpu.mig is not None)
        classes.setdefault(kind, []).append(gpu)
    return [tuple(group) for group in classes.values()]


def islands(gpus: Iterable[Gpu]) -> list[tuple[Gpu, ...]]:
    """Splits GPUs into sets in which every pair has NVLink, the largest first; a GPU alone is its own.

    Greedy from the best connected GPU on: exact for NVSwitch, bridged pairs and none at all.
    """
    left = list(gpus)
    found = []
    while left:
        here = {gpu.uuid for gpu in left}
        seed = max(left, key=lambda gpu: len(here.intersection(gpu.nvlink_peers)))
        island = [seed]
        for gpu in left:
            if gpu is not seed and all(_linked(gpu, other) for other in island):
                island.append(gpu)
        members = {gpu.uuid for gpu in island}
        found.append(tuple(gpu for gpu in left if gpu.uuid in members))
        left = [gpu for gpu in left if gpu.uuid not in members]
    return sorted(found, key=len, reverse=True)


def fully_linked(gpus: Iterable[Gpu]) -> bool:
    """Every pair has NVLink: what vLLM's custom all-reduce asks for above two ranks."""
    members = list(gpus)
    return all(_linked(a, b) for i, a in enumerate(members) for b in members[i + 1 :])


def _linked(a: Gpu, b: Gpu) -> bool:
    return b.uuid in a.nvlink_peers and a.uuid in b.nvlink_peers
