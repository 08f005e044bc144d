"""Compiled cache: selects the directory that engines of the same build share, from start to start.

A cache only saves time: a damaged cache is replaced by an empty directory. A start without a place for the cache
compiles in the start's own temporary directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from pareta_agent.engine.spec import EngineSettings
from pareta_agent.engine.vllm.caches import DIRECTORIES


def directory(settings: EngineSettings) -> Path:
    """The current directory of this build's compiled kernels: the newest of the numbered directories."""
    numbers = _numbers(_build(settings))
    return _build(settings) / str(max(numbers, default=1))


def ready(settings: EngineSettings, spare: Path) -> Path:
    """The present directory if usable, else a new directory; `spare` where the disk has no place for any."""
    with contextlib.suppress(OSError):
        return _make(directory(settings))
    with contextlib.suppress(OSError):
        return _make(_next(settings))
    return spare


def discard(settings: EngineSettings) -> bool:
    """Gives the next start an empty cache; False when the present cache is empty.

    The present cache stays for engines that run or start with it; earlier caches are removed.
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
    """Makes the cache directory. Raises OSError on failure to make or write."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in DIRECTORIES.values():
        (cache / name).mkdir(parents=True, exist_ok=True)
    probe = cache / ".writable"
    probe.touch()
    probe.unlink()
    return cache
