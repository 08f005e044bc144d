"""Makes the engine's own interpreter from a committed pin list: a venv of its own, so our pins and vLLM's never meet.

Idempotent and resumable: the marker is written last, pip goes on where it was cut, and a lock lets one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pareta_agent import launch
from pareta_agent.engine.dist_alias import write_alias
from pareta_agent.engine.interpreter import Interpreter, inspect
from pareta_agent.engine.pins import Pins, Platform, choose
from pareta_agent.engine.pipsay import Progress, explain, lacks_cpu_torch
from pareta_agent.errors import HostError
from pareta_agent.telemetry.events import Emit, Event, Phase

CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
_MARKER = "pareta-engine.json"
_NEED_BYTES: dict[Platform, int] = {"cpu": 5 * 1024**3, "cuda": 18 * 1024**3}
_VENV_TIMEOUT_S = 300.0
_PIP_TIMEOUT_S = 3600.0
_IMPORT_TIMEOUT_S = 600.0
_LOCK_POLL_S = 0.5
_PIP_OPTIONS = ("--no-deps", "--only-binary", ":all:", "--no-compile", "--no-input", "--progress-bar", "off")


@dataclass(frozen=True, slots=True)
class InstallSettings:
    """`cache_dir` holds one directory an engine; `version` None: the newest that is committed."""

    cache_dir: Path
    platform: Platform
    version: str | None = None
    base_python: Path = Path(sys.executable)
    requirements_dir: Path | None = None
    verify: str = "import vllm.entrypoints.openai.api_server"


@dataclass(frozen=True, slots=True)
class Installed:
    """An engine on this disk, or one that could be. `python` is set where it is `installed`."""

    name: str
    platform: str
    version: str
    python: Path | None
    state: Literal["installed", "unfinished", "available"] = "unfinished"


async def ensure(settings: InstallSettings, emit: Emit) -> Path:
    """The engine's python, installed when it is missing; verified by importing vLLM in it.

    Raises HostError: `engine_version_unknown`, `disk_full`, `no_network`, `engine_package_missing`,
    `engine_python_version`, `venv_missing`, `engine_install_failed`, `engine_import_failed`.
    """
    directory = settings.requirements_dir
    pins = choose(settings.platform, settings.version, *([directory] if directory else []))
    target = settings.cache_dir / "engines" / pins.name
    if complete(target):
        return python_of(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    async with _lock(target.with_suffix(target.suffix + ".lock"), emit):
        if not complete(target):
            await _install(settings, pins, target, emit)
    return python_of(target)


def python_of(target: Path) -> Path:
    return target / "bin" / "python"


def complete(target: Path) -> bool:
    return (target / _MARKER).exists() and python_of(target).exists()


def installed(cache_dir: Path) -> list[Installed]:
    """What is there, whole or cut short."""
    found = []
    for target in sorted((cache_dir / "engines").glob("*-*-*")):
        if target.is_dir():
            platform, version, _ = target.name.split("-", 2)
            python = python_of(target) if complete(target) else None
            found.append(
                Installed(target.name, platform, version, python, "installed" if python else "unfinished")
            )
    return found


async def _install(settings: InstallSettings, pins: Pins, target: Path, emit: Emit) -> None:
    begun_s = time.monotonic()
    progress = Progress(len(pins.packages), lambda done, say: _tell(emit, "progress", done, pins, say))
    _tell(emit, "started", 0, pins, f"vLLM {pins.version} for {pins.platform}")
    try:
        _admit(target, pins.platform)
        await _make_venv(settings.base_python, target)
        await _pip(target, pins, progress)
        write_alias(target)
        found = await _verify(settings, target)
    except HostError as error:
        _tell(emit, "failed", None, pins, error.message)
        raise
    _mark(target, found)
    emit(Phase("engine", "install", "done", time.monotonic() - begun_s, detail=f"vLLM {found.version}"))


def _tell(emit: Emit, state: str, done: int | None, pins: Pins, detail: str) -> None:
    emit(Phase("engine", "install", state, None, done, len(pins.packages), "packages", detail))  # type: ignore[arg-type]


def _admit(target: Path, platform: Platform) -> None:
    free = shutil.disk_usage(target.parent).free
    used = 0 if not target.exists() else sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
    if free + used < _NEED_BYTES[platform]:
        raise HostError(
            "disk_full",
            f"the engine needs {_NEED_BYTES[platform] / 1e9:.0f} GB, {target.parent} has {free / 1e9:.1f} GB free",
            "free some space, or set PARETA_CACHE to a larger disk",
        )


async def _make_venv(base: Path, target: Path) -> None:
    if python_of(target).exists() and (target / "bin" / "pip").exists():
        return
    done = await launch.run([str(base), "-m", "venv", "--clear", str(target)], timeout_s=_VENV_TIMEOUT_S)
    if done.returncode == 0:
        return
    if "ensurepip" in done.output or "No module named venv" in done.output:
        raise HostError(
            "venv_missing",
            f"{base} cannot make virtual environments",
            "install its venv module (apt: python3-venv)",
        )
    raise explain(done.output, "the virtual environment could not be made")


async def _pip(target: Path, pins: Pins, progress: Progress) -> None:
    argv = [str(python_of(target)), "-m", "pip", "install", *_PIP_OPTIONS, "-r", str(pins.path)]
    done = await launch.run(argv, timeout_s=_PIP_TIMEOUT_S, on_line=progress.line)
    if done.returncode != 0 and lacks_cpu_torch(done.output):
        progress.say("the index has no CPU build of torch: adding PyTorch's own")
        argv += ["--extra-index-url", CPU_TORCH_INDEX]
        done = await launch.run(argv, timeout_s=_PIP_TIMEOUT_S, on_line=progress.line)
    if done.returncode != 0:
        raise explain(done.output, "the engine's packages could not be installed")


async def _verify(settings: InstallSettings, target: Path) -> Interpreter:
    found = await inspect(python_of(target))
    argv = [str(python_of(target)), "-P", "-c", settings.verify]
    # pip left the compiling to this import, and containers like to forbid that it is kept.
    env = launch.environment({"PYTHONDONTWRITEBYTECODE": ""})
    done = await launch.run(argv, env=env, timeout_s=_IMPORT_TIMEOUT_S)
    if done.returncode != 0:
        last = next((line for line in reversed(done.output.splitlines()) if line.strip()), "no output")
        raise HostError(
            "engine_import_failed",
            f"vLLM {found.version} was installed, but cannot be imported: {last}",
            f"remove {target} and run `pareta-agent engine install` again",
        )
    return found


def _mark(target: Path, found: Interpreter) -> None:
    partial = target / f"{_MARKER}.partial"
    with partial.open("w") as file:
        json.dump({"vllm": found.version, "platform": found.platform, "python": found.python}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target / _MARKER)


@contextlib.asynccontextmanager
async def _lock(path: Path, emit: Emit) -> AsyncIterator[None]:
    with path.open("w") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    emit(
                        Event(
                            "engine_install_waiting",
                            "info",
                            {"for": "another installation of the same engine"},
                        )
                    )
                told = True
                await asyncio.sleep(_LOCK_POLL_S)
        yield
