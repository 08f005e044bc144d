"""Which GPUs may work as one."""

from __future__ import annotations

from dataclasses import replace

from planner_values import gpus

from pareta_agent.hardware.islands import fully_linked, identical, islands


def names(groups: list) -> list[list[str]]:
    return [[gpu.uuid for gpu in group] for group in groups]


def test_nvswitch_makes_one_island() -> None:
    """Eight GPUs that all see each other are one."""
    assert [[f"GPU-{i}" for i in range(8)]] == names(islands(gpus(8)))


def test_bridged_pairs_are_islands_of_two() -> None:
    """A bridge joins two GPUs, not the pairs among themselves."""
    four = gpus(4, linked=False)
    pairs = {0: "GPU-3", 3: "GPU-0", 1: "GPU-2", 2: "GPU-1"}
    bridged = [replace(gpu, nvlink_peers=(pairs[index],)) for index, gpu in enumerate(four)]
    assert names(islands(bridged)) == [["GPU-0", "GPU-3"], ["GPU-1", "GPU-2"]]


def test_a_link_that_one_side_denies_is_none() -> None:
    """Both ends must report the peer."""
    a, b = gpus(2)
    assert names(islands([a, replace(b, nvlink_peers=())])) == [["GPU-0"], ["GPU-1"]]
    assert not fully_linked([a, replace(b, nvlink_peers=())])


def test_the_largest_island_comes_first() -> None:
    """So that big replicas find their place first."""
    lone = gpus(1, linked=False)[0]
    pair = tuple(
        replace(gpu, uuid=f"P{index}", nvlink_peers=(f"P{1 - index}",)) for index, gpu in enumerate(gpus(2))
    )
    assert names(islands([lone, *pair])) == [["P0", "P1"], ["GPU-0"]]


def test_unlike_gpus_never_share_a_class() -> None:
    """Name, capability and memory size must all agree."""
    large, small = gpus(1)[0], replace(gpus(1, 39.4)[0], uuid="small")
    other = replace(large, uuid="other", name="NVIDIA H200")
    assert names(identical([large, small, other])) == [["GPU-0"], ["small"], ["other"]]
