"""The host's cores and memory, inside a container and out."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from pareta_agent.hardware.host import cores_near, read_host


def test_a_cgroups_limits_are_the_hosts(tmp_path: Path) -> None:
    """A container of half a GiB and one core does not own the machine; page cache counts as available."""
    (tmp_path / "memory.max").write_text("536870912\n")
    (tmp_path / "memory.current").write_text("436870912\n")
    (tmp_path / "memory.stat").write_text("anon 100000000\ninactive_file 300000000\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    host = read_host(tmp_path)
    assert (host.cpu_cores, host.memory_bytes, host.memory_available_bytes) == (1, 536870912, 400000000)


def test_no_limit_leaves_the_machine(tmp_path: Path) -> None:
    """`max` and absent files mean the whole machine."""
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    host = read_host(tmp_path)
    assert psutil.virtual_memory().total == host.memory_bytes
    assert host.cpu_cores >= 1


@pytest.mark.parametrize(
    ("nodes", "mine", "expected"),
    [
        ([0], range(8), (0, 1, 6)),
        ([1], range(8), (2, 3, 4, 5, 7)),
        ([0, 1], range(8), ()),
        ([1, None], range(8), ()),
        ([7], range(8), ()),
        ([0], [1, 2, 3], (1,)),
        ([0], [4, 5], ()),
        ([], range(8), ()),
    ],
)
def test_an_engine_runs_on_the_cores_beside_its_gpus(nodes, mine, expected, tmp_path):
    """Of those that it may use; anywhere where a node is unknown, has none of them, or would change nothing."""
    for node, cores in enumerate(("0-1,6\n", "2-5,7\n")):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}" / "cpulist").write_text(cores)
    assert cores_near(nodes, mine, tmp_path) == expected
