"""Files are replaced whole, with the right permissions; locks exclude each other within one process too."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pareta_registry.files import FileLock, sync, write_atomically


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(
    ("before", "mode", "after"),
    [
        (None, None, 0o640),
        (0o604, None, 0o604),
        (None, 0o600, 0o600),
        (0o644, 0o600, 0o600),
        (None, 0o666, 0o666),
    ],
)
def test_permissions(tmp_path: Path, before: int | None, mode: int | None, after: int) -> None:
    """Those that are given, else those of the file before, else the usual ones."""
    path = tmp_path / "file"
    if before is not None:
        path.touch()
        path.chmod(before)
    write_atomically(path, b"new", mode=mode)
    assert (path.read_bytes(), path.stat().st_mode & 0o7777, list(tmp_path.iterdir())) == (
        b"new",
        after,
        [path],
    )


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """The file that the link named keeps its content."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomically(tmp_path / "link", b"new")
    assert ((tmp_path / "real").read_bytes(), (tmp_path / "link").is_symlink()) == (b"old", False)


def test_a_target_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """A directory stands there; and a directory that is missing is not made."""
    (tmp_path / "there").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "there", b"new")
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


def test_readers_and_other_writers_see_whole_files(tmp_path: Path) -> None:
    """Two threads replace one file again and again; each content that is read is one that was written."""
    path, contents = tmp_path / "file", (b"a" * 70_000, b"b" * 100)
    write_atomically(path, contents[0])

    def replace_often(content: bytes) -> None:
        for _ in range(40):
            write_atomically(path, content)

    writers = [threading.Thread(target=replace_often, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())
    for writer in writers:
        writer.join()
    assert seen <= set(contents)
    assert list(tmp_path.iterdir()) == [path]


def test_files_and_directories_are_synced(tmp_path: Path) -> None:
    """What is not there is an error."""
    (tmp_path / "file").touch()
    sync(tmp_path / "file")
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "missing")


@pytest.mark.parametrize(
    ("held", "wanted", "granted"),
    [(True, True, False), (True, False, False), (False, True, False), (False, False, True)],
)
def test_shared_locks_exclude_exclusive_ones_alone(
    tmp_path: Path, held: bool, wanted: bool, granted: bool
) -> None:
    """True is exclusive; after its release the lock is anybody's."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.try_acquire(exclusive=held)
    assert second.try_acquire(exclusive=wanted) is granted
    first.release()
    first.release()
    assert second.try_acquire(exclusive=wanted)
    second.release()
    assert (tmp_path / "lock").exists()


def test_a_lock_is_converted_in_place(tmp_path: Path) -> None:
    """Exclusive becomes shared, and again exclusive once no other holder shares it."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.try_acquire()
    assert first.try_acquire(exclusive=False)
    assert second.try_acquire(exclusive=False)
    assert not first.try_acquire()
    second.release()
    assert first.try_acquire()
    first.release()


def test_a_wait_ends_with_the_release(tmp_path: Path) -> None:
    """`with` waits for the holder."""
    first, entered = FileLock(tmp_path / "lock"), threading.Event()
    first.acquire()

    def enter() -> None:
        with FileLock(tmp_path / "lock"):
            entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not entered.wait(0.05)
    first.release()
    assert entered.wait(30)
    waiting.join()
    assert first.try_acquire()
    first.release()


def test_an_owner_is_read_without_the_lock(tmp_path: Path) -> None:
    """A shorter text replaces a longer one whole."""
    lock, reader = FileLock(tmp_path / "lock", mode=0o600), FileLock(tmp_path / "lock")
    assert lock.owner() == ""
    assert lock.try_acquire()
    lock.store_owner("123456")
    lock.store_owner("78")
    assert (reader.owner(), (tmp_path / "lock").read_bytes()) == ("78", b"78\n")
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    lock.release()
    reader.release()


def test_a_directory_is_locked_by_itself(tmp_path: Path) -> None:
    """No file is made for that, and one that is missing is an error."""
    first, second = FileLock(tmp_path, existing=True), FileLock(tmp_path, existing=True)
    with first:
        assert not second.try_acquire()
    assert second.try_acquire()
    second.release()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "missing", existing=True).open()


def test_a_link_is_no_lock_file(tmp_path: Path) -> None:
    """A lock file that somebody else could choose would be no lock."""
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "lock").try_acquire()
    assert not (tmp_path / "elsewhere").exists()
