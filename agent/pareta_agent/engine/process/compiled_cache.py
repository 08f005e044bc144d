"""Compiled cache: selects the directory that engines of one build share, from start to start.

A cache saves time and nothing else: a damaged one is left for an empty one, and a start that finds no place for it
compiles in its own temporary directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from pareta_agent.engine.spec import EngineSettings
from pareta_agent.engine.vllm.caches import DIRECTORIES


def directory(settings: EngineSettings) -> Path:
    """The directory of this build's compiled kernels from now on: the newest of its numbered directories."""
    numbers = _numbers(_build(settings))
    return _build(settings) / str(max(numbers, default=1))


def ready(settings: EngineSettings, spare: Path) -> Path:
    """That directory, which can be used now, else a new one; `spare` where the disk has no place for any."""
    with contextlib.suppress(OSError):
        return _make(directory(settings))
    with contextlib.suppress(OSError):
        return _make(_next(settings))
    return spare


def discard(settings: EngineSettings) -> bool:
    """The next start begins with an empty cache; False when the present one is empty.

    The present one stays for engines that run or start with it; those before it are removed.
    """
    present = directory(settings)
    if not any(path.is_file() for path in present.rglob("*")):
        return False
    with contextlib.suppress(OSError):
        _make(_next(settings))
    for number in _numbers(present.parent):
        if number < int(present.name):
            shutil.rmtree(present.with_name(str(number)), ignore_errors=True)
    return directory(settings) != present


def _build(settings: EngineSettings) -> Path:
    build = repr((settings.command, settings.python, settings.version))
    return settings.cache_dir / f"{settings.version}-{hashlib.sha256(build.encode()).hexdigest()[:12]}"


def _numbers(build: Path) -> list[int]:
    try:
        return [int(path.name) for path in build.iterdir() if path.name.isdecimal()]
    except OSError:
        return []


def _next(settings: EngineSettings) -> Path:
    build = _build(settings)
    for place in (build.parent, build):
        if not place.is_dir():
            place.unlink(missing_ok=True)
    return build / str(max(_numbers(build), default=0) + 1)


def _make(cache: Path) -> Path:
    """Raises OSError where it cannot be made or written."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in DIRECTORIES.values():
        (cache / name).mkdir(parents=True, exist_ok=True)
    probe = cache / ".writable"
    probe.touch()
    probe.unlink()
    return cache
