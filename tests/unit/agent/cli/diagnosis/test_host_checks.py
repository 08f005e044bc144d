"""The doctor's judgements on facts: each level of each check, with its remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planner_values import gpus, host, node

from pareta_agent.cli.diagnosis import host_checks as checks
from pareta_agent.cli.diagnosis.engine_checks import kernels
from pareta_agent.cli.diagnosis.findings import Finding, HostFacts
from pareta_agent.cli.diagnosis.host_checks import findings
from pareta_agent.hardware.inventory import GIB, Health

WELL = HostFacts(
    inventory=host(),
    nvidia_device=False,
    shm_free_bytes=8 * GIB,
    open_files=1 << 20,
    disk_path="/home",
    disk_free_bytes=100 * GIB,
    host="127.0.0.1",
    port=8000,
    port_error=None,
    own_node_at=None,
    clock_synchronized=True,
    clock_offset_s=None,
    catalog_tasks=2,
    catalog_error=None,
    plane_url=None,
    plane_error=None,
    engine_command=None,
    engine_path="/engine/bin/python",
    engine_version="0.32.0",
    engine_platform="cpu",
    engine_error=None,
    engine_cuda=None,
    compiler=None,
    python_headers=None,
    nvcc=None,
    kernels_wrong=(),
    kernels_compared=100,
    tls_days=None,
    tls_error=None,
)
TWO = node(gpus(2), driver="580.95", cuda_driver=13000)
TOOLS = {"compiler": "/usr/bin/gcc", "python_headers": True, "nvcc": "/usr/bin/nvcc"}
CUDA = replace(WELL, inventory=TWO, nvidia_device=True, engine_platform="cuda", engine_cuda=13000, **TOOLS)


def test_all_is_well() -> None:
    """One line a check, all of them ok."""
    found = findings(WELL)
    assert [one.check for one in found] == [
        "nvml", "driver", "shm", "ulimits", "disk", "port", "tls", "clock", "registry", "plane", "engine", "toolchain",
        "kernels",
    ]  # fmt: skip
    assert {one.level for one in (*found, *findings(CUDA))} == {"ok"}
    assert all(not one.remedy for one in found)


SICK = replace(TWO, gpus=(replace(TWO.gpus[0], health=Health(xid=79)), TWO.gpus[1]))
BROKEN_NVML = replace(host(), nvml_error="Driver/library version mismatch")
OLD_DRIVER = replace(TWO, cuda_driver=12020)
CASES: list[tuple[str, HostFacts, checks.Level, str]] = [
    ("nvml", replace(WELL, inventory=BROKEN_NVML, nvidia_device=True), "fail", "mismatch"),
    ("toolchain", WELL, "ok", "compile nothing"),
    ("toolchain", replace(CUDA, compiler=None), "fail", "missing: a C compiler"),
    ("toolchain", replace(CUDA, python_headers=False), "fail", "missing: Python's headers"),
    ("toolchain", replace(CUDA, nvcc=None), "warn", "nvcc is not"),
    ("tls", replace(WELL, tls_days=90.0), "ok", "valid for 90 days"),
    ("tls", replace(WELL, tls_days=3.0), "warn", "3.0 days left"),
    ("tls", replace(WELL, tls_days=-1.0), "fail", "has expired"),
    ("tls", replace(WELL, tls_error="/k: no such file"), "fail", "no such file"),
    ("nvml", replace(WELL, inventory=BROKEN_NVML), "ok", "engines run on the CPU"),
    ("driver", replace(CUDA, inventory=OLD_DRIVER), "fail", "CUDA 12.2, the engine is built for CUDA 13"),
    ("driver", replace(CUDA, engine_cuda=12090), "ok", "built for CUDA 12"),
    ("gpu", replace(CUDA, inventory=SICK), "fail", "GPU-0: fatal XID 79"),
    ("shm", replace(WELL, shm_free_bytes=64 << 20), "warn", "only 64 MiB"),
    ("shm", replace(CUDA, shm_free_bytes=64 << 20), "fail", "only 64 MiB"),
    ("shm", replace(WELL, shm_free_bytes=None), "warn", "cannot be read"),
    ("ulimits", replace(WELL, open_files=20000), "warn", "20,000 open files"),
    ("ulimits", replace(WELL, open_files=1024), "fail", "1,024 open files"),
    ("disk", replace(WELL, disk_free_bytes=10 * GIB), "warn", "10.0 GiB free"),
    ("disk", replace(WELL, disk_free_bytes=GIB), "fail", "1.0 GiB free"),
    ("disk", replace(WELL, disk_free_bytes=None), "fail", "is not writable"),
    ("port", replace(WELL, port_error="Address already in use"), "fail", "Address already in use"),
    (
        "port",
        replace(WELL, own_node_at="http://h:9/v1"),
        "ok",
        "the node of this home listens at http://h:9/v1",
    ),
    ("clock", replace(WELL, clock_synchronized=False), "warn", "not synchronized"),
    ("clock", replace(WELL, clock_offset_s=5.0), "warn", "+5 s"),
    ("clock", replace(WELL, clock_offset_s=-90.0), "fail", "-90 s"),
    (
        "registry",
        replace(WELL, catalog_tasks=None, catalog_error="tasks.yaml:3: unknown key"),
        "fail",
        "tasks.yaml:3",
    ),
    (
        "plane",
        replace(WELL, plane_url="https://plane", plane_error="Name or service not known"),
        "fail",
        "not known",
    ),
    ("plane", replace(WELL, plane_url="https://plane"), "ok", "https://plane answers"),
    ("engine", replace(WELL, engine_path=None), "warn", "no engine is installed"),
    ("engine", replace(WELL, engine_error="/x has no vLLM"), "fail", "has no vLLM"),
    ("engine", replace(CUDA, engine_platform="cpu"), "warn", "on a host with GPUs"),
    ("engine", replace(WELL, engine_platform="cuda"), "fail", "on a host without a GPU"),
    ("engine", replace(WELL, engine_command="fake"), "ok", "fake replaces vLLM"),
]


@pytest.mark.parametrize(("check", "facts", "level", "said"), CASES)
def test_each_judgement(check: str, facts: HostFacts, level: checks.Level, said: str) -> None:
    """Level and words; whatever is not ok says what to do."""
    (one,) = [found for found in findings(facts) if found.check == check]
    assert one.level == level
    assert said in one.message
    assert bool(one.remedy) == (level != "ok")


def test_the_engines_absence_says_what_serve_does() -> None:
    """A newcomer is not sent away: serve installs it."""
    assert checks.engine(replace(WELL, engine_path=None)) == Finding(
        "engine", "warn", "no engine is installed", "run `pareta-agent engine install` (`serve` does, too)"
    )


@pytest.mark.parametrize(
    ("wrong", "level", "said"),
    [
        ((), "ok", "100 comparisons with float32"),
        (("bfloat16 attention (amx)",), "warn", "wrong results on this device: bfloat16 attention (amx)"),
        (None, "warn", "not compared with float32 yet"),
    ],
)
def test_the_kernel_checks_result_is_shown(wrong, level, said) -> None:  # type: ignore[no-untyped-def]
    """What is wrong is named; the remedy of a check that has not run is the command."""
    found = kernels(replace(WELL, kernels_wrong=wrong))
    assert (found.level, said in found.message) == (level, True)
    assert bool(found.remedy) == (level == "warn")
