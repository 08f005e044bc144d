"""Spool lock: admits one agent to a spool; the kernel releases the lock when that agent ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pareta_agent.errors import HostError
from pareta_registry.files import FileLock


def lock_spool(path: Path) -> FileLock:
    """Returns the exclusive lock, which stores this process's pid.

    Raises HostError `spool_locked` with the holder's pid, and OSError where the file cannot be opened.
    """
    lock, acquired = FileLock(path, mode=0o600), False
    lock.open()
    with contextlib.suppress(OSError):  # a file system without locks cannot protect a spool
        acquired = lock.try_acquire()
    if not acquired:
        holder = lock.owner() or "unknown"
        lock.release()
        raise HostError(
            "spool_locked",
            f"another agent (pid {holder}) writes the spool {path.with_suffix('.db')}",
            "stop it first, or set PARETA_HOME to a directory of this agent's own",
        )
    lock.store_owner(str(os.getpid()))
    return lock
