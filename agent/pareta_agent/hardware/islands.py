"""GPU islands: groups GPUs that may form one replica: identical, and linked by NVLink. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pareta_agent.hardware.inventory import Gpu


def identical(gpus: Iterable[Gpu]) -> list[tuple[Gpu, ...]]:
    """GPUs grouped by model, compute capability and memory size, in the order of appearance. Groups are never mixed."""
    classes: dict[tuple[object, ...], list[Gpu]] = {}
    for gpu in gpus:
        kind = (gpu.name, gpu.compute_capability, gpu.memory_total_bytes, gpu.mig is not None)
        classes.setdefault(kind, []).append(gpu)
    return [tuple(group) for group in classes.values()]


def islands(gpus: Iterable[Gpu]) -> list[tuple[Gpu, ...]]:
    """Splits GPUs into sets in which every pair has NVLink, the largest first. A GPU without NVLink is a set of its
    own.

    Greedy, starting with the best connected GPU: exact for NVSwitch, for bridged pairs and without NVLink.
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
    """True if every pair has NVLink, which vLLM's custom all-reduce requires above two ranks."""
    members = list(gpus)
    return all(_linked(a, b) for i, a in enumerate(members) for b in members[i + 1 :])


def _linked(a: Gpu, b: Gpu) -> bool:
    return b.uuid in a.nvlink_peers and a.uuid in b.nvlink_peers
