"""GPU placement: builds pools of identical, healthy, free GPUs and cuts each into groups along NVLink. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pareta_agent.hardware.inventory import GIB, Gpu, Inventory
from pareta_agent.hardware.islands import fully_linked, identical, islands
from pareta_agent.planning.placement.layout import Layout
from pareta_agent.planning.plan import Plan, Rejection

_COARSE_LEVELS: Final = 6
_ENGINE_HOST_BYTES: Final = 5 * GIB
_UNIFIED_KEPT_PER_CENT: Final = 10


@dataclass(frozen=True, slots=True)
class GpuPool:
    """Interchangeable GPUs. Bytes are the minimum of all members: `total` as torch reports, `free` now.

    `islands` are the same GPUs in sets that NVLink joins, the largest first.
    """

    gpus: tuple[Gpu, ...]
    islands: tuple[tuple[Gpu, ...], ...]
    name: str
    capability: tuple[int, int]
    total_bytes: int
    free_bytes: int

    @property
    def mig(self) -> bool:
        return self.gpus[0].mig is not None


def pools(inventory: Inventory, *, exact: bool = False) -> tuple[list[GpuPool], list[Rejection]]:
    """Every pool to plan on, the largest first, and a rejection for each unusable GPU.

    GPUs of one kind form a pool per level of free memory: all at the lowest level, fewer at each higher level. A level
    is a sixth of the GPU, or every byte with `exact`.
    """
    rejections = [
        Rejection(f"GPU {gpu.uuid}", reason)
        for gpu in inventory.gpus
        if (reason := _no_place(gpu, inventory))
    ]
    sound = [gpu for gpu in inventory.gpus if not _no_place(gpu, inventory)]
    return [pool for kind in identical(sound) for pool in _levels(kind, inventory, exact)], rejections


Groups = tuple[tuple[Gpu, ...], ...]
"""The GPUs of each replica, in rank order."""


def groups(pool: GpuPool, layout: Layout, replicas: int | None = None) -> list[tuple[Groups, bool]]:
    """The cuts of a pool into `replicas` (None: as many as fit), each with True if every group of ranks has NVLink.

    A group is the ranks that communicate in every layer. The first cut takes groups from islands alone. The second adds
    groups of the remaining GPUs, sorted by NUMA node.
    """
    size = layout.tp * layout.dp
    if layout.gpus > 1 and pool.mig:
        return []
    inside, left = [], list[Gpu]()
    for island in pool.islands:
        whole = len(island) // size * size
        inside += [island[i : i + size] for i in range(0, whole, size)]
        left += island[whole:]
    left.sort(key=lambda gpu: -1 if gpu.numa_node is None else gpu.numa_node)
    across = [tuple(left[i : i + size]) for i in range(0, len(left) - size + 1, size)]
    found = {}
    for ranks in (inside, [*inside, *across]):
        cut = tuple(
            tuple(gpu for group in ranks[i : i + layout.pp] for gpu in group)
            for i in range(0, len(ranks) - layout.pp + 1, layout.pp)
        )[:replicas]
        if cut and (replicas is None or len(cut) == replicas):
            found[cut] = all(fully_linked(group) for group in ranks[: len(cut) * layout.pp])
    return list(found.items())


def gpu_groups(
    chosen: Plan, replicas: int, inventory: Inventory, taken: frozenset[str]
) -> tuple[tuple[str, ...], ...]:
    """The GPU groups of a running plan on the current inventory.

    A replica keeps its GPUs while all are healthy and not `taken`. Missing replicas get idle GPUs of the same kind with
    the same links, as far as available.
    """
    if not any(chosen.gpus):
        return chosen.gpus
    sound = {gpu.uuid: gpu for gpu in inventory.gpus if not _no_place(gpu, inventory)}
    free = sound.keys() - taken
    kept = [group for group in chosen.gpus if free.issuperset(group)]
    if not kept or len(kept) >= replicas:
        return tuple(kept[:replicas])
    used = {uuid for group in kept for uuid in group}
    share = _share(chosen)
    spare = [gpu for uuid, gpu in sound.items() if uuid in free - used and _holds(gpu, inventory, share)]
    model = [sound[uuid] for uuid in kept[0]]
    alike = next((kind[:-1] for kind in identical([*spare, model[0]]) if kind[-1] is model[0]), ())
    if not alike:
        return tuple(kept)
    pool = GpuPool(alike, tuple(islands(alike)), "", (0, 0), 0, 0)
    wired = fully_linked(model[: chosen.tp * chosen.dp])
    cuts = groups(pool, Layout(chosen.tp, chosen.pp, chosen.dp, chosen.expert_parallel))
    more = max((cut for cut, linked in cuts if linked or not wired), key=len, default=())
    moved = [tuple(gpu.uuid for gpu in group) for group in more]
    return (*kept, *moved[: replicas - len(kept)])


def rivals(chosen: Plan, others: Mapping[str, Plan]) -> frozenset[str]:
    """The names of other plans whose share of a GPU conflicts with this plan's share of the same GPU."""
    found = set[str]()
    for uuid in {uuid for group in chosen.gpus for uuid in group}:
        there = {name: each for name, each in others.items() if any(uuid in group for group in each.gpus)}
        if sum(_share(each) for each in (chosen, *there.values())) > 1:
            found.update(there)
    return frozenset(found)


def _share(chosen: Plan) -> float:
    return chosen.gpu_memory_utilization or 1.0


def _holds(gpu: Gpu, inventory: Inventory, share: float) -> bool:
    memory = _memory(gpu, inventory)
    return memory is not None and memory[1] >= share * memory[0]


def _no_place(gpu: Gpu, inventory: Inventory) -> str | None:
    if gpu.fault is not None:
        return gpu.fault
    if gpu.mig_enabled:
        return "the memory is split into MIG instances"
    if gpu.compute_capability is None:
        return "the compute capability is unknown"
    if _memory(gpu, inventory) is None:
        return "the memory is unknown"
    return None


def _memory(gpu: Gpu, inventory: Inventory) -> tuple[int, int] | None:
    """Total and free bytes, None if unknown.

    With unified memory the driver's numbers are wrong. vLLM takes the host's available bytes as free (mem_utils.py);
    the engine's processes and the system use the same memory.
    """
    if not inventory.unified_memory:
        total = gpu.usable_bytes
        return (
            None
            if total is None
            else (total, total if gpu.memory_free_bytes is None else gpu.memory_free_bytes)
        )
    total = gpu.usable_bytes or inventory.memory_bytes
    available = inventory.memory_available_bytes
    if total is None or available is None:
        return None
    return total, available - _ENGINE_HOST_BYTES - total * _UNIFIED_KEPT_PER_CENT // 100


def _levels(kind: tuple[Gpu, ...], inventory: Inventory, exact: bool) -> Iterable[GpuPool]:
    memory = {gpu.uuid: found for gpu in kind if (found := _memory(gpu, inventory))}
    total = min(found[0] for found in memory.values())
    step = 1 if exact else max(1, total // _COARSE_LEVELS)
    for level in sorted({found[1] // step for found in memory.values()}):
        members = tuple(gpu for gpu in kind if memory[gpu.uuid][1] // step >= level)
        free = min(memory[gpu.uuid][1] for gpu in members)
        name, capability = kind[0].name or "GPU", kind[0].compute_capability or (0, 0)
        yield GpuPool(members, tuple(islands(members)), name, capability, total, free)
