"""Local checkpoint: lists the files of a directory and copies the files of an artifact.

Links inside the checkpoint are followed. A Hugging Face cache stores a snapshot's files in the repository's own
`blobs` folder, which therefore belongs to the checkpoint too:

    models--org--name/snapshots/<commit>/config.json -> ../../blobs/<hash>
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pareta_registry.errors import ArtifactError, unreadable
from pareta_registry.importers.checkpoint_files import DOCUMENTS, MAX_DOCUMENT_BYTES, select


def copy_checkpoint(source: Path, target: Path, *, code: bool = False) -> None:
    """Copies the artifact's files of `source`; pickles, caches and other checkpoints are left out.

    ArtifactError for a selected file that is a dangling link, leaves the checkpoint, or is unreadable.
    """
    root = source.resolve()
    paths = tuple(_paths(root))
    documents = {name: _document(root, name) for name in DOCUMENTS if name in paths}
    for path in select(paths, documents, str(source)).kept(paths, code=code):
        into = target / path
        into.parent.mkdir(parents=True, exist_ok=True)
        with _open(root, path) as file, into.open("wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)


def _paths(root: Path) -> Iterator[str]:
    """Every file by relative path. Hidden folders are skipped; links to folders are refused."""
    for folder, folders, names in os.walk(root, onerror=_fail):
        here = Path(folder)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (here / name).is_symlink():
                raise _refused(root, (here / name).relative_to(root).as_posix(), "the path links to a folder")
        for name in names:
            yield (here / name).relative_to(root).as_posix()


def _document(root: Path, path: str) -> bytes:
    with _open(root, path) as file:
        return file.read(MAX_DOCUMENT_BYTES)


def _open(root: Path, path: str) -> BinaryIO:
    """The regular file behind `path`, opened by its real path."""
    named = root / path
    real = Path(os.path.realpath(named))  # pathlib's resolve raises on a loop, in some Python versions only
    if named.is_symlink() and not real.exists():
        raise _refused(root, path, f"the path links to {named.readlink()}, which does not exist")
    if not real.is_relative_to(root) and real.parent != _blobs(root):
        raise _refused(root, path, f"the path links to {real}, which is outside the checkpoint")
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(f"{path} in {root}", error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _refused(root, path, "the path is no regular file")
    return os.fdopen(descriptor, "rb")


def _blobs(root: Path) -> Path | None:
    """The blobs folder of a Hugging Face cache with the snapshot `root`. No link, because `root` is none."""
    return root.parent.parent / "blobs" if root.parent.name == "snapshots" else None


def _fail(error: OSError) -> None:
    raise unreadable(str(error.filename), error) from error


def _refused(root: Path, path: str, reason: str) -> ArtifactError:
    return ArtifactError(
        "artifact_refused",
        f"{path} in {root} is refused: {reason}",
        "replace the link with a plain file (cp -rL copies plain files)",
    )
