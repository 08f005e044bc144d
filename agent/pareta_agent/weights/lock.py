"""Locks between processes that a crash releases: flock on a file that is never removed."""

from __future__ import annotations

import fcntl
import os
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

    async def acquire(
        self, clock: Clock, timeout_s: float, on_wait: Callable[[], None], *, exclusive: bool
    ) -> None:
        """Waits for the lock, telling `on_wait` at each look; HostError `weights_locked` past the deadline."""
        deadline = clock.mono_s() + timeout_s
        while not self.try_acquire(exclusive=exclusive):
            if clock.mono_s() >= deadline:
                self.release()
                raise HostError(
                    "weights_locked",
                    f"another process has held {self._path} for more than {timeout_s:.0f} s",
                    "end that process, or give this agent a weights root of its own",
                )
            on_wait()
            await clock.sleep(_POLL_S)
