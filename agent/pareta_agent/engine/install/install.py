"""Engine install: makes the engine's own interpreter from a committed pin list. A separate venv keeps our pins and
vLLM's apart.

Idempotent and resumable: the marker is written last, pip resumes after an interruption, and a lock serialises
installs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pareta_agent import processes
from pareta_agent.engine.install.dist_alias import write_alias
from pareta_agent.engine.install.interpreter import EngineInterpreter, inspect
from pareta_agent.engine.install.package_index import Index
from pareta_agent.engine.install.pip_output import PipProgress, explain, missing_package
from pareta_agent.engine.install.pythons import SERIES, find
from pareta_agent.engine.install.recipe import CRITICAL, Recipe, choose_recipe
from pareta_agent.engine.install.requirements import EngineRequirements, Platform, choose
from pareta_agent.errors import HostError
from pareta_agent.telemetry.events import Emit, Event, Phase
from pareta_registry.files import FileLock, write_atomically

_MARKER = "pareta-engine.json"
_NEED_BYTES: dict[Platform, int] = {"cpu": 5 * 1024**3, "cuda": 18 * 1024**3}
_CUDA_LIBRARIES_BYTES = 4 * 1024**3
_VENV_TIMEOUT_S = 300.0
_PIP_TIMEOUT_S = 3600.0
_IMPORT_TIMEOUT_S = 600.0
_LOCK_POLL_S = 0.5
_PIP_OPTIONS = ("--only-binary", ":all:", "--no-compile", "--no-input", "--progress-bar", "off")


@dataclass(frozen=True, slots=True)
class InstallSettings:
    """`cache_dir` holds a directory per engine; `version` None: the newest committed version."""

    cache_dir: Path
    platform: Platform
    version: str | None = None
    base_python: Path = Path(sys.executable)
    requirements_dir: Path | None = None
    cpu_torch_index: str = "https://download.pytorch.org/whl/cpu"
    verify: str = "import vllm.entrypoints.openai.api_server"


@dataclass(frozen=True, slots=True)
class Installed:
    """An engine on this disk, or an installable engine. `python` is set where `installed`."""

    name: str
    platform: str
    version: str
    python: Path | None
    state: Literal["installed", "unfinished", "available"] = "unfinished"


async def ensure(settings: InstallSettings, emit: Emit) -> Path:
    """The engine's python, installed when missing; verified by importing vLLM there.

    The engine's Python may differ from the agent's: the first Python of this host for which the packages are served.
    Raises HostError: `engine_version_unknown`, `disk_full`, `no_network`, `engine_package_missing`, `venv_missing`,
    `engine_install_failed`, `engine_import_failed`.
    """
    directory = settings.requirements_dir
    pins = choose(settings.platform, settings.version, *([directory] if directory else []))
    engines = settings.cache_dir / "engines"
    if (there := _existing(engines, pins)) is not None:
        return python_of(there)
    engines.mkdir(parents=True, exist_ok=True)
    async with _lock(engines / f"{pins.platform}-{pins.version}.lock", emit):
        there = _existing(engines, pins) or await _install(settings, pins, engines, emit)
    return python_of(there)


def _existing(engines: Path, pins: EngineRequirements) -> Path | None:
    """A complete engine of the given pins, made of any Python; the agent's own first."""
    for wanted in (pins, pins.with_plain_torch()):
        for series in (pins.series, *SERIES):
            if complete(target := engines / wanted.of(series).name):
                return target
    return None


def python_of(target: Path) -> Path:
    return target / "bin" / "python"


def complete(target: Path) -> bool:
    return (target / _MARKER).exists() and python_of(target).exists()


def installed(cache_dir: Path) -> list[Installed]:
    """The installed engines, whole or cut short."""
    found = []
    for target in sorted((cache_dir / "engines").glob("*-*-*")):
        if target.is_dir():
            platform, version, _ = target.name.split("-", 2)
            python = python_of(target) if complete(target) else None
            found.append(
                Installed(target.name, platform, version, python, "installed" if python else "unfinished")
            )
    return found


async def _install(settings: InstallSettings, pins: EngineRequirements, engines: Path, emit: Emit) -> Path:
    begun_s = time.monotonic()
    progress = PipProgress(len(pins.packages), lambda done, say: _tell(emit, "progress", done, pins, say))
    _tell(emit, "started", 0, pins, f"vLLM {pins.version} for {pins.platform}")
    try:
        _admit(engines, pins, _NEED_BYTES[pins.platform])
        target = await _filled(settings, pins, engines, progress)
        write_alias(target)
        found = await _verify(settings, target)
    except HostError as error:
        _tell(emit, "failed", None, pins, error.message)
        raise
    _mark(target, found)
    emit(Phase("engine", "install", "done", time.monotonic() - begun_s, detail=f"vLLM {found.version}"))
    return target


async def _filled(
    settings: InstallSettings, pins: EngineRequirements, engines: Path, progress: PipProgress
) -> Path:
    """An environment with all packages. A package that is not served for this Python leads to the next recipe."""
    pythons = await find(settings.base_python)
    if not pythons:
        raise _venv_missing(settings.base_python)
    asking = engines / pins.of(pythons[0].series).name
    await _make_venv(pythons[0].path, asking)
    index, names = Index(python_of(asking), settings.cpu_torch_index), list(CRITICAL)
    while True:
        recipe = await choose_recipe(pins, pythons, index, names)
        target = engines / recipe.pins.name
        done = await _make(recipe, engines, progress)
        if done.returncode == 0:
            if target != asking:
                shutil.rmtree(asking, ignore_errors=True)
            return target
        name = (missing_package(done.output) or "").partition("==")[0]
        if not name or name in names:
            raise explain(done.output, "the engine's packages could not be installed")
        names.append(name)


async def _make(recipe: Recipe, engines: Path, progress: PipProgress) -> processes.Completed:
    pins, target = recipe.pins, engines / recipe.pins.name
    progress.say(
        f"for Python {recipe.python.series}" + (f", with {pins.torch}" if recipe.plain_torch else "")
    )
    if recipe.plain_torch:
        _admit(engines, pins, _NEED_BYTES[pins.platform] + _CUDA_LIBRARIES_BYTES)
    await _make_venv(recipe.python.path, target)
    return await _pip(target, recipe, progress)


def _tell(emit: Emit, state: str, done: int | None, pins: EngineRequirements, detail: str) -> None:
    emit(Phase("engine", "install", state, None, done, len(pins.packages), "packages", detail))  # type: ignore[arg-type]


def _admit(engines: Path, pins: EngineRequirements, need_bytes: int) -> None:
    free = shutil.disk_usage(engines).free
    begun = engines.glob(f"{pins.platform}-{pins.version}-*/**/*")
    used = sum(file.stat().st_size for file in begun if file.is_file())
    if free + used < need_bytes:
        raise HostError(
            "disk_full",
            f"the engine needs {need_bytes / 1e9:.0f} GB, {engines} has {free / 1e9:.1f} GB free",
            "free some space, or set PARETA_CACHE to a larger disk",
        )


async def _make_venv(base: Path, target: Path) -> None:
    if python_of(target).exists() and (target / "bin" / "pip").exists():
        return
    done = await processes.run([str(base), "-m", "venv", "--clear", str(target)], timeout_s=_VENV_TIMEOUT_S)
    if done.returncode == 0:
        return
    if "ensurepip" in done.output or "No module named venv" in done.output:
        raise _venv_missing(base)
    raise explain(done.output, "the virtual environment could not be made")


def _venv_missing(base: Path) -> HostError:
    return HostError(
        "venv_missing",
        f"{base} cannot make virtual environments, nor can another Python of this host",
        "install its venv module (apt: python3-venv)",
    )


async def _pip(target: Path, recipe: Recipe, progress: PipProgress) -> processes.Completed:
    requirements = target / "requirements.txt"
    requirements.write_text(recipe.pins.text)
    argv = [str(python_of(target)), "-m", "pip", "install", *_PIP_OPTIONS]
    more = ["--extra-index-url", recipe.extra_index] if recipe.extra_index else []
    files = ["-r", str(requirements)]
    done = await processes.run(
        [*argv, "--no-deps", *files, *more], timeout_s=_PIP_TIMEOUT_S, on_line=progress.line
    )
    if done.returncode == 0 and recipe.plain_torch:
        argv += [recipe.pins.torch, "-c", str(requirements)]
        done = await processes.run(argv, timeout_s=_PIP_TIMEOUT_S, on_line=progress.line)
    return done


async def _verify(settings: InstallSettings, target: Path) -> EngineInterpreter:
    found = await inspect(python_of(target))
    argv = [str(python_of(target)), "-P", "-c", settings.verify]
    # pip left the compiling to this import, and containers like to forbid that it is kept.
    env = processes.environment({"PYTHONDONTWRITEBYTECODE": ""})
    done = await processes.run(argv, env=env, timeout_s=_IMPORT_TIMEOUT_S)
    if done.returncode != 0:
        last = next((line for line in reversed(done.output.splitlines()) if line.strip()), "no output")
        raise HostError(
            "engine_import_failed",
            f"vLLM {found.version} was installed, but cannot be imported: {last}",
            f"remove {target} and run `pareta-agent engine install` again",
        )
    return found


def _mark(target: Path, found: EngineInterpreter) -> None:
    marker = {"vllm": found.version, "platform": found.platform, "python": found.python}
    write_atomically(target / _MARKER, json.dumps(marker).encode())


@contextlib.asynccontextmanager
async def _lock(path: Path, emit: Emit) -> AsyncIterator[None]:
    lock, waiting = FileLock(path, mode=0o666), False  # a group may share the cache
    try:
        while not lock.try_acquire():
            if not waiting:
                other = "another installation of the same engine"
                emit(Event("engine_install_waiting", "info", {"for": other}))
            waiting = True
            await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        lock.release()
