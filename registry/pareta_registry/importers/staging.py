"""Staging: makes a directory appear under a new name whole, or not at all, even if the program is killed."""

from __future__ import annotations

import glob
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pareta_registry.errors import ArtifactError
from pareta_registry.files import FileLock

_SUFFIX = ".partial"


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A directory on the same disk that becomes `target` when the block ends without an exception.

    ArtifactError where `target` is in use. A killed program leaves a hidden `.NAME.*.partial`, which the next staging
    of the same target removes.
    """
    refuse_in_use(target)
    target = target.resolve()
    work, held = _make(next(parent for parent in target.parents if parent.is_dir()), target.name)
    try:
        yield work
        _publish(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        held.release()


def refuse_in_use(target: Path) -> None:
    """ArtifactError unless `target` is a new name or an empty directory."""
    if target.is_symlink() and not target.exists():
        raise ArtifactError(
            "target_exists",
            f"{target} is a link to {target.readlink()}, which does not exist",
            "remove the link",
        )
    if target.exists() and not target.is_dir():
        raise ArtifactError("target_exists", f"{target} is no directory", "name a new directory")
    if target.exists() and any(target.iterdir()):
        raise ArtifactError("target_exists", f"{target} is not empty", "name a new directory")


def _make(folder: Path, name: str) -> tuple[Path, FileLock]:
    """A new directory with a held lock. The folder's lock excludes a sweep between the creation and the lock."""
    with FileLock(folder, existing=True):
        for left in folder.glob(f".{glob.escape(name)}.*{_SUFFIX}"):
            _sweep(left)
        work = folder / f".{name}.{secrets.token_hex(4)}{_SUFFIX}"
        work.mkdir()
        held = FileLock(work, existing=True)
        held.acquire()
        return work, held


def _sweep(left: Path) -> None:
    """Removes the leftovers of a killed program; a running program holds the lock."""
    held = FileLock(left, existing=True)
    try:
        if held.try_acquire():
            shutil.rmtree(left, ignore_errors=True)
    finally:
        held.release()


def _publish(work: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work.rename(target)
    except OSError as error:
        raise ArtifactError(
            "target_exists", f"{target} cannot be replaced: {error.strerror}", "name a new directory"
        ) from None
