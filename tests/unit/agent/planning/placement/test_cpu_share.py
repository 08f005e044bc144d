"""How a host's cores are shared among engines without a GPU."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pareta_agent.hardware.cores import Cores
from pareta_agent.planning.placement.cpu_share import Share, share


def node(first: int, cores: int, *, siblings: int = 0) -> tuple[tuple[int, ...], ...]:
    """Cores numbered from `first`; with `siblings` each has another CPU that many further on."""
    return tuple((cpu, cpu + siblings) if siblings else (cpu,) for cpu in range(first, first + cores))


LAPTOP = Cores((node(0, 8, siblings=8),), 16)
SERVER = Cores((node(0, 16), node(16, 16)), 32)
SMALL = Cores((node(0, 2),), 2)
POD = Cores((node(0, 16),), 4)


@pytest.mark.parametrize(
    ("cores", "engines", "shares"),
    [
        (SMALL, 1, ["1 thread"]),
        (SMALL, 2, ["1 thread", "1 thread"]),
        (LAPTOP, 1, ["8 threads"]),
        (LAPTOP, 2, ["4 threads on CPUs 0-3,8-11", "4 threads on CPUs 4-7,12-15"]),
        (
            LAPTOP,
            3,
            ["2 threads on CPUs 0-1,8-9", "3 threads on CPUs 2-4,10-12", "3 threads on CPUs 5-7,13-15"],
        ),
        (SERVER, 1, ["31 threads"]),
        (SERVER, 2, ["15 threads on CPUs 0-15", "15 threads on CPUs 16-31"]),
        (SERVER, 3, ["7 threads on CPUs 0-7", "7 threads on CPUs 8-15", "15 threads on CPUs 16-31"]),
        (POD, 1, ["3 threads"]),
        (POD, 2, ["1 thread on CPUs 0-7", "1 thread on CPUs 8-15"]),
    ],
)
def test_shares_are_these(cores: Cores, engines: int, shares: list[str]) -> None:
    """Whole cores of one node, one CPU left for the server; alone, or with one CPU, an engine is kept nowhere."""
    assert [str(share(cores, engines, seat)) for seat in range(engines)] == shares


@pytest.mark.parametrize(("told", "expected"), [(3, Share(3, (0, 1, 2, 3))), (4, Share(4)), (9, Share(9))])
def test_threads_as_told_are_kept_to_the_share_that_holds_them(told: int, expected: Share) -> None:
    """With more threads than its share has CPUs it may run anywhere: packed together they would wait for each other."""
    assert share(Cores((node(0, 8),), 8), 2, 0, told) == expected


def test_beside_gpus_only_the_place_is_told() -> None:
    """How many threads a GPU's engine has is its own choice."""
    assert str(Share(None, (0, 1, 2))) == "on CPUs 0-2"
    assert str(Share(None)) == ""


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 1),
    st.integers(1, 40),
    st.integers(1, 9),
)
def test_every_share_is_fair(sizes: list[int], siblings: int, at_once: int, engines: int) -> None:
    """Each has a thread; while there are cores for all, no CPU is kept for two and no core computes twice."""
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    nodes = tuple(
        node(start, size, siblings=100 * siblings) for start, size in zip(starts, sizes, strict=True)
    )
    cores = Cores(nodes, min(at_once, sum(sizes) * (1 + siblings)))
    shares = [share(cores, engines, seat) for seat in range(engines)]
    assert all(each.threads and each.threads >= 1 for each in shares)
    kept = sorted(cpu for each in shares for cpu in each.cpus)
    if engines <= sum(sizes):
        assert all(one != other for one, other in pairwise(kept))
        assert sum(each.threads or 0 for each in shares) <= max(sum(sizes), engines)
