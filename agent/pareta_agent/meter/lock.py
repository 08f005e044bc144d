"""One agent a spool: a file lock that the kernel gives back when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pareta_agent.errors import HostError


class Lock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, path: Path) -> Lock:
        """Raises HostError `spool_locked`, naming the pid that holds it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise HostError(
                "spool_locked",
                f"another agent (pid {holder}) writes the spool {path.with_suffix('.db')}",
                "stop it first, or set PARETA_HOME to a directory of this agent's own",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
