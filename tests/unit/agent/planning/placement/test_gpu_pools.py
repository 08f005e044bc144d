"""Which GPUs a replica's ranks sit on."""

from __future__ import annotations

from dataclasses import replace

from engine_plans import PLAN
from planner_values import gpus, node

from pareta_agent.hardware.inventory import GIB, Gpu, Health, Inventory
from pareta_agent.planning.placement.gpu_pools import gpu_groups, groups, pools, rivals
from pareta_agent.planning.placement.layout import Layout


def grouped(inventory_gpus: tuple[Gpu, ...], layout: Layout) -> tuple[list[list[str]], bool]:
    found, _ = pools(node(inventory_gpus))
    members, nvlink = groups(found[0], layout)[0]
    return [[gpu.uuid for gpu in group] for group in members], nvlink


def bridged(*pairs: tuple[int, int]) -> tuple[Gpu, ...]:
    peers = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    return tuple(
        replace(gpu, nvlink_peers=(f"GPU-{peers[index]}",) if index in peers else ())
        for index, gpu in enumerate(gpus(4, linked=False))
    )


def test_ranks_follow_the_bridges() -> None:
    """Pairs of tensor ranks are bridged pairs."""
    assert grouped(bridged((0, 3), (1, 2)), Layout(2)) == ([["GPU-0", "GPU-3"], ["GPU-1", "GPU-2"]], True)


def test_an_island_is_preferred_to_a_pair_over_pcie() -> None:
    """One bridged pair among four: the replica takes it, the rest would be slow."""
    assert grouped(bridged((1, 3)), Layout(2)) == ([["GPU-1", "GPU-3"]], True)


def test_without_bridges_numa_nodes_pair_up() -> None:
    """Ranks that share a socket do not cross it."""
    four = tuple(replace(gpu, numa_node=index % 2) for index, gpu in enumerate(gpus(4, linked=False)))
    assert grouped(four, Layout(2)) == ([["GPU-0", "GPU-2"], ["GPU-1", "GPU-3"]], False)


def test_stages_take_whole_groups() -> None:
    """tp 2 × pp 2: ranks of a stage together, stages in order."""
    assert grouped(gpus(4), Layout(2, 2)) == ([["GPU-0", "GPU-1", "GPU-2", "GPU-3"]], True)


def test_leftovers_make_no_replica() -> None:
    """Seven GPUs are three pairs."""
    members, _ = grouped(gpus(7), Layout(2))
    assert len(members) == 3


def test_unlike_free_memory_makes_several_pools() -> None:
    """All GPUs at the poorest level, and fewer at richer ones."""
    four = gpus(4)
    uneven = (replace(four[0], memory_free_bytes=20 * GIB), *four[1:])
    found, _ = pools(node(uneven))
    assert sorted((len(pool.gpus), pool.free_bytes // GIB) for pool in found) == [(3, 79), (4, 20)]


def test_what_is_unknown_is_no_place() -> None:
    """No capability, no memory, or a GPU that is split: each with its reason."""
    one = gpus(1)[0]
    odd = (
        replace(one, uuid="blind", compute_capability=None),
        replace(one, uuid="bare", memory_total_bytes=None),
        replace(one, uuid="split", mig_enabled=True),
    )
    found, rejections = pools(node(odd))
    assert found == []
    assert [one.reason for one in rejections] == [
        "the compute capability is unknown",
        "the memory is unknown",
        "the memory is split into MIG instances",
    ]


def test_what_islands_leave_over_is_a_choice_of_its_own() -> None:
    """One bridged pair of four: a replica with NVLink, or two, one of them over PCIe; asked for two, the latter."""
    (pool,), _ = pools(node(bridged((0, 1))))
    cuts = [
        ([[gpu.uuid for gpu in group] for group in cut], linked) for cut, linked in groups(pool, Layout(2))
    ]
    alone, both = [["GPU-0", "GPU-1"]], [["GPU-0", "GPU-1"], ["GPU-2", "GPU-3"]]
    assert cuts == [(alone, True), (both, False)]
    assert [linked for _, linked in groups(pool, Layout(2), 2)] == [False]
    assert [linked for _, linked in groups(pool, Layout(2), 1)] == [True]
    assert groups(pool, Layout(2), 3) == []


def placed(
    inventory: Inventory, *groups: tuple[str, ...], tp: int = 1, taken: str = ""
) -> list[tuple[str, ...]]:
    """Where two replicas, planned on these GPUs, go on the node as it is now."""
    chosen = replace(PLAN, platform="cuda", gpus=groups, tp=tp, gpu_memory_utilization=0.9)
    return list(gpu_groups(chosen, 2, inventory, frozenset(taken.split())))


def test_a_lost_replica_goes_to_an_idle_gpu_of_its_kind() -> None:
    """Not to another's, not to one of another kind, not to one that somebody else fills."""
    four = gpus(4)
    lost = replace(four[1], health=Health(lost=True))
    other = gpus(1, 39.4, name="NVIDIA A100", compute_capability=(8, 0))[0]
    busy = replace(four[3], memory_free_bytes=GIB)
    assert placed(node(four), ("GPU-0",), ("GPU-1",)) == [("GPU-0",), ("GPU-1",)]
    assert placed(node((four[0], lost, four[2])), ("GPU-0",), ("GPU-1",)) == [("GPU-0",), ("GPU-2",)]
    assert placed(node((four[0], lost, four[2])), ("GPU-0",), ("GPU-1",), taken="GPU-2") == [("GPU-0",)]
    assert placed(node((four[0], replace(other, uuid="X"), busy)), ("GPU-0",), ("GPU-1",)) == [("GPU-0",)]
    assert placed(node((lost,)), ("GPU-1",), ("GPU-2",)) == []


def test_a_group_with_nvlink_moves_only_to_one_that_has_it() -> None:
    """Two bridged pairs, and two cards on PCIe alone: not the same place."""
    pairs = (
        gpus(2),
        tuple(replace(gpu, uuid=f"B-{index}", nvlink_peers=()) for index, gpu in enumerate(gpus(2))),
    )
    groups = ("GPU-0", "GPU-1"), ("GPU-8", "GPU-9")
    assert placed(node(*pairs), *groups, tp=2) == [("GPU-0", "GPU-1")]
    joined = tuple(replace(gpu, nvlink_peers=(f"B-{1 - index}",)) for index, gpu in enumerate(pairs[1]))
    assert placed(node(pairs[0], joined), *groups, tp=2) == [("GPU-0", "GPU-1"), ("B-0", "B-1")]


def test_rivals_are_those_whose_shares_leave_too_little() -> None:
    """Halves of one GPU go together; a whole one is in the way of both, and another GPU of nobody."""
    half = replace(
        PLAN, platform="cuda", gpus=(("GPU-0",),), gpu_memory_utilization=0.45, kv_cache_bytes=None
    )
    whole = replace(half, gpus=(("GPU-0", "GPU-1"),), gpu_memory_utilization=0.92)
    elsewhere = replace(half, gpus=(("GPU-2",),))
    assert rivals(half, {"half": half, "elsewhere": elsewhere}) == frozenset()
    assert rivals(half, {"whole": whole, "elsewhere": elsewhere}) == {"whole"}
    assert rivals(whole, {"half": half, "other": half}) == {"half", "other"}
    assert rivals(PLAN, {"cpu": PLAN}) == frozenset()
