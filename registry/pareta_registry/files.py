"""Files: replaces a file atomically and durably, syncs to stable storage, and locks between processes.

Moves of whole directories and rotations of logs are no writes and stay with the callers.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from pathlib import Path
from types import TracebackType


def write_atomically(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replaces the content of `path` with `data`, durably: a crash leaves the old content or the new, never a
    mixture.

    `mode`: permission bits. None: the bits of the replaced file; for a new file 0o666 less the umask. A symbolic link
    at `path` is replaced, not followed. The directory must exist.

    Raises OSError. An error before the rename leaves the old content and no other file. An error of the directory's
    sync leaves the new content, which a power loss may still revert. A killed program may leave a hidden
    `.NAME.*.partial`, which no reader opens.
    """
    # A name of its own: two programs that replace the same file would otherwise write into one temporary file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    wanted_mode = _mode_of(path) if mode is None else mode
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666 if wanted_mode is None else wanted_mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Only where it differs: some mounts have one mode for all files and refuse to change it.
            if wanted_mode is not None and os.fstat(descriptor).st_mode & 0o7777 != wanted_mode:
                os.fchmod(descriptor, wanted_mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    try:
        sync(path.parent)
    except OSError as error:
        # Some network file systems cannot sync a directory (SMB: EINVAL); the file itself is synced.
        if error.errno != errno.EINVAL:
            raise


def sync(path: Path) -> None:
    """Flushes a file's content, or a directory's entries, to stable storage. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode_of(path: Path) -> int | None:
    try:
        return path.stat().st_mode & 0o7777
    except FileNotFoundError:
        return None


class FileLock:
    """Lock between processes on a file (flock), shared or exclusive. The kernel releases the locks of a dead process.

    Two instances exclude each other within a process too. The lock file is never removed: a waiting process holds a
    descriptor, and would then lock a file that no later process finds.

    `mode`: permission bits of a new lock file, less the umask. `existing`: `path` is an existing file or directory,
    opened for reading; such a lock cannot store an owner.
    """

    def __init__(self, path: Path, *, mode: int = 0o644, existing: bool = False) -> None:
        self._path, self._mode, self._existing = path, mode, existing
        self._descriptor: int | None = None

    def open(self) -> int:
        """Opens the lock file, creates it if needed, and returns the descriptor; locks nothing. Raises OSError."""
        if self._descriptor is None:
            flags = os.O_RDONLY if self._existing else os.O_RDWR | os.O_CREAT
            self._descriptor = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, self._mode)
        return self._descriptor

    def try_acquire(self, *, exclusive: bool = True) -> bool:
        """Acquires the lock, or converts the held lock, without waiting; False while another holder excludes it.

        Raises OSError if the file cannot be opened or the file system has no locks.
        """
        # A conversion is not atomic (flock(2)): one that fails may have lost the lock that was held before.
        try:
            fcntl.flock(self.open(), (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def acquire(self) -> None:
        """Acquires the lock exclusively. Waits without a deadline: only for locks that are held briefly."""
        fcntl.flock(self.open(), fcntl.LOCK_EX)

    def owner(self) -> str:
        """The text that the last owner stored in the lock file; empty for none. Requires no lock."""
        return os.pread(self.open(), 256, 0).decode("ascii", "replace").strip()

    def store_owner(self, text: str) -> None:
        """Stores an ASCII line in the lock file for readers; only for the exclusive holder."""
        descriptor = self.open()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{text}\n".encode("ascii"), 0)

    def touch(self) -> None:
        """Sets the lock file's modification time to now, which records a use."""
        os.utime(self._path)

    def release(self) -> None:
        """Releases a held lock and closes the file. The lock can be acquired again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
