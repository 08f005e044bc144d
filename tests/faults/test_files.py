"""An atomic write that is killed, or that finds no space, leaves the old content; a lock dies with its holder."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import file_writer

from pareta_registry.files import FileLock, write_atomically

PROGRAM = [sys.executable, str(Path(file_writer.__file__))]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(
    ("step", "content", "beside"),
    [("file sync", b"old", 1), ("rename", b"old", 1), ("directory sync", b"new", 0), ("none", b"new", 0)],
)
def test_a_killed_write_leaves_the_old_content_or_the_new(
    tmp_path: Path, step: str, content: bytes, beside: int
) -> None:
    """The file is synced before the rename, the directory after it; the next write does not mind what is left."""
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    done = subprocess.run([*PROGRAM, "write", str(path), step], timeout=60)
    assert done.returncode == (0 if step == "none" else -signal.SIGKILL)
    left = [each.name for each in tmp_path.iterdir() if each != path]
    assert (path.read_bytes(), len(left)) == (content, beside)
    assert all(name.startswith(".state.json.") and name.endswith(".partial") for name in left)
    write_atomically(path, b"newer")
    assert path.read_bytes() == b"newer"


def test_a_full_disk_leaves_the_old_content_and_nothing_beside_it(small_disk: Path) -> None:
    """The error is the disk's own, and with space again the same write succeeds."""
    path, other = small_disk / "state.json", small_disk / "other"
    path.write_bytes(b"old")
    other.write_bytes(b"x" * 40_000)
    with pytest.raises(OSError, match="No space") as caught:
        write_atomically(path, b"new" * 10_000)
    assert caught.value.errno == errno.ENOSPC
    assert (path.read_bytes(), {each.name for each in small_disk.iterdir()}) == (
        b"old",
        {"state.json", "other"},
    )
    other.unlink()
    write_atomically(path, b"new" * 10_000)
    assert path.read_bytes() == b"new" * 10_000


def test_a_write_cut_midway_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    """The kernel takes 4 KiB of 64 and refuses the rest."""
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    done = subprocess.run(
        [*PROGRAM, "limited", str(path), "4096"], capture_output=True, timeout=60, check=True
    )
    assert int(done.stdout) == errno.EFBIG
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    """While the holder lives, others read its name; after SIGKILL the lock is free."""
    path = tmp_path / "lock"
    with subprocess.Popen([*PROGRAM, "hold", str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        lock = FileLock(path)
        refused = (lock.try_acquire(), lock.try_acquire(exclusive=False), lock.owner())
        holder.kill()
        holder.wait(60)
    assert refused == (False, False, str(holder.pid))
    assert lock.try_acquire()
    lock.release()
