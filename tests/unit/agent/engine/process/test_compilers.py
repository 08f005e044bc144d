"""Which processes are compilers, and whose."""

from __future__ import annotations

import pytest

from pareta_agent.engine.process.compilers import family, is_compiler
from pareta_agent.processes import Stat


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cc1plus", ("/usr/libexec/gcc/x86_64-linux-gnu/14/cc1plus", "-quiet")),
        ("x86_64-linux-gn", ("/usr/bin/x86_64-linux-gnu-g++-14", "a.cpp")),
        ("sh", ("/bin/sh", "/opt/wrappers/g++", "a.cpp")),
        ("python3", ("/opt/engine/bin/python3", "/opt/engine/bin/ninja", "-v")),
        ("clang++-18", ("clang++-18", "a.cpp")),
        ("nvcc", ("/usr/local/cuda/bin/nvcc", "a.cu")),
        ("ptxas", ("ptxas", "a.ptx")),
        ("sleep", ("cc1plus", "60")),
    ],
)
def test_compilers_are_known_by_name(name: str, words: tuple[str, ...]) -> None:
    """By the kernel's short name, or by the command line, whose first word may be an interpreter's."""
    assert is_compiler(name, words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("VLLM::EngineCor", ("VLLM::EngineCore",)),
        ("python", ("/opt/engine/bin/python", "-m", "vllm.entrypoints.openai.api_server")),
        ("python", ("python", "-c", "from multiprocessing.resource_tracker import main;main(7)")),
        ("bash", ("bash", "-c", "g++ --version")),
        ("tail", ("tail", "-f", "gcc.log")),
        ("", ()),
    ],
)
def test_an_engines_own_processes_are_none(name: str, words: tuple[str, ...]) -> None:
    """Nor is what only mentions one."""
    assert not is_compiler(name, words)


def test_a_family_is_the_group_and_all_descendants() -> None:
    """Also those that lead a session of their own; nobody else's."""
    leader, strangers = (
        Stat(10, "S", 1, 10, 10, 100),
        [Stat(20, "R", 1, 20, 20, 90), Stat(21, "R", 20, 20, 20, 130)],
    )
    core = Stat(11, "S", 10, 10, 10, 110)
    pool = Stat(12, "S", 11, 12, 12, 120)
    compiler = Stat(13, "R", 12, 12, 12, 130)
    orphan = Stat(9, "S", 1, 10, 10, 140)
    found = family(10, [orphan, compiler, *strangers, pool, leader, core])
    assert {each.pid for each in found} == {11, 12, 13, 9}
