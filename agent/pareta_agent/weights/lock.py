"""Locks between processes that a crash releases: flock on a file that is never removed."""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Callable
from pathlib import Path

from pareta_agent.clock import Clock
from pareta_agent.errors import HostError

_POLL_S = 0.2


class FileLock:
    """One holder's grip on one lock file; `exclusive` or shared, moved between the two or let go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self, *, exclusive: bool) -> bool:
        """Takes or converts the lock without waiting; False when somebody else is in the way."""
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._path, flags, 0o644)
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def touch(self) -> None:
        """Notes a use: the lock file's mtime."""
        os.utime(self._path)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


async def patiently(
    attempt: Callable[[], bool], path: Path, clock: Clock, timeout_s: float, on_wait: Callable[[], None]
) -> None:
    """Tries until it works, telling `on_wait` each time it does not; HostError `weights_locked` past the deadline."""
    deadline_s = clock.mono_s() + timeout_s
    while not attempt():
        if clock.mono_s() >= deadline_s:
            raise HostError(
                "weights_locked",
                f"another process has held {path} for more than {timeout_s:.0f} s",
                "end that process, or give this agent a weights root of its own",
            )
        on_wait()
        await clock.sleep(random.uniform(0.5, 1.5) * _POLL_S)
