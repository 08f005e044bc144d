"""Weights disk: checks free space, shares and syncs files, and publishes an artifact whole or not at all.

Blocking: callers use threads. Independent of networks and digests.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pareta_agent.errors import HostError
from pareta_registry.files import sync

_FICLONE = 0x40049409
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def host_errors(path: Path, artifact: str) -> Iterator[None]:
    """Converts an OSError into a HostError that names the path and the artifact."""
    try:
        yield
    except OSError as error:
        raise host_error(error, path, artifact) from error


def host_error(error: OSError, path: Path, artifact: str) -> HostError:
    if error.errno in _FULL:
        return HostError(
            "disk_full",
            f"the disk ran full while artifact {artifact} was written to {path}",
            f"free space on the disk of {path}, or point the weights root at a larger one; the fetch resumes",
        )
    return HostError(
        "weights_unreadable",
        f"artifact {artifact} cannot be kept in {error.filename or path}: {error.strerror or error}",
        f"give the agent's user read and write access to {path}",
    )


def admit(root: Path, need_bytes: int, reserve_bytes: int, artifact: str) -> None:
    """HostError `disk_full` unless `need_bytes` fit on the disk of `root` beside the reserve."""
    have_bytes = free_bytes(root) - reserve_bytes
    if need_bytes > have_bytes:
        raise HostError(
            "disk_full",
            f"artifact {artifact} needs {need_bytes:,} bytes in {root}, {max(0, have_bytes):,} are free"
            f" beside a reserve of {reserve_bytes:,}",
            f"free {need_bytes - have_bytes:,} bytes on that disk or point the weights root at a larger one",
        )


def free_bytes(root: Path) -> int:
    return shutil.disk_usage(root).free


def write_at(path: Path, offset: int, piece: bytes | memoryview) -> None:
    """Writes the piece at `offset`.

    Opens the file for each piece, so that a late thread never holds a stale descriptor.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    rest = memoryview(piece)
    try:
        while rest:
            written = os.pwrite(descriptor, rest, offset)
            offset, rest = offset + written, rest[written:]
    finally:
        os.close(descriptor)


def share(source: Path, target: Path) -> None:
    """Makes `target` the same bytes as `source`, without a copy where the file system supports sharing."""
    target.unlink(missing_ok=True)
    with suppress(OSError):
        os.link(source, target, follow_symlinks=False)
        return
    with source.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 4 << 20)


def sync_tree(root: Path) -> None:
    """Syncs every file and folder under `root` to stable storage; files become read-only."""
    for folder, _folders, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            sync(path)
            path.chmod(0o444)
        sync(Path(folder))


def publish(partial: Path, final: Path) -> None:
    """Renames a synced directory to its final name, durably and atomically."""
    partial.rename(final)
    sync(final.parent)
