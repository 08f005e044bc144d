"""The host's cores and memory, inside a container and out."""

from __future__ import annotations

from pathlib import Path

import psutil

from pareta_agent.hardware.host import read_host


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
