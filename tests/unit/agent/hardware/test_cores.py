"""Which cores a process may use, as the kernel's files tell it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pareta_agent.hardware.cores import Cores, cores_near, ranges, read_cores


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Two sockets of four cores with two CPUs each, the way Linux numbers them; a node of memory alone."""
    for node, cpulist in enumerate(("0-3,8-11\n", "4-7,12-15\n", "\n")):
        (tmp_path / "node" / f"node{node}").mkdir(parents=True)
        (tmp_path / "node" / f"node{node}" / "cpulist").write_text(cpulist)
    for cpu in range(16):
        topology = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 8},{cpu % 8 + 8}\n")
    return tmp_path


def test_cores_are_read_by_node_with_their_siblings(system: Path, tmp_path: Path) -> None:
    """Sixteen CPUs are eight cores on two nodes."""
    assert read_cores(range(16), tmp_path, system) == Cores(
        (((0, 8), (1, 9), (2, 10), (3, 11)), ((4, 12), (5, 13), (6, 14), (7, 15))), 16
    )


def test_only_what_the_process_may_use_counts(system: Path, tmp_path: Path) -> None:
    """Pinned to three CPUs, in a container that lets two of them run at a time."""
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert read_cores([2, 10, 7], tmp_path, system) == Cores((((2, 10),), ((7,),)), 2)


def test_a_kernel_that_says_nothing_has_one_node(tmp_path: Path) -> None:
    """As in some containers and on machines without NUMA: each CPU is a core."""
    assert read_cores([5, 3, 4], tmp_path, tmp_path / "nothing") == Cores((((3,), (4,), (5,)),), 3)


def test_this_machine_is_read_whole() -> None:
    """Every CPU of this process is in one core of one node."""
    found = read_cores()
    cpus = [cpu for node in found.nodes for core in node for cpu in core]
    assert sorted(cpus) == sorted(os.sched_getaffinity(0))
    assert 1 <= found.at_once <= found.cpus == len(cpus)


@pytest.mark.parametrize(
    ("nodes", "mine", "expected"),
    [
        ([0], range(16), (0, 1, 2, 3, 8, 9, 10, 11)),
        ([1], range(8), (4, 5, 6, 7)),
        ([0, 1], range(16), ()),
        ([1, None], range(16), ()),
        ([7], range(16), ()),
        ([2], range(16), ()),
        ([0], [3, 4], (3,)),
        ([0], [4, 5], ()),
        ([0], [1, 2], ()),
        ([], range(16), ()),
    ],
)
def test_an_engine_runs_on_the_cores_beside_its_gpus(nodes, mine, expected, system):
    """Of those that it may use; anywhere where a node is unknown, has none of them, or would change nothing."""
    assert cores_near(nodes, mine, system) == expected


@pytest.mark.parametrize(
    ("cpus", "text"), [((), ""), ((4,), "4"), ((11, 0, 1, 2, 3, 8, 10), "0-3,8,10-11"), ((0, 2), "0,2")]
)
def test_cpus_are_written_as_the_kernel_does(cpus: tuple[int, ...], text: str) -> None:
    """Ranges, in order."""
    assert ranges(cpus) == text
