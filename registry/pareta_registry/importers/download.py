"""Download: copies an artifact from a store into a new directory, file by file, for `import`.

Nodes fetch in parallel and resume; a publisher downloads once, in sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from pareta_registry.artifacts.manifest import BESIDE, MANIFEST_NAME, path_refusal
from pareta_registry.errors import ArtifactError
from pareta_registry.importers.checkpoint_files import DOCUMENTS, MAX_DOCUMENT_BYTES, select
from pareta_registry.stores.base import Store, StoreEntry, read_small


async def download(store: Store, target: Path) -> None:
    """Writes the artifact's files of the store; ArtifactError for a truncated, altered or refused file.

    An artifact is copied whole, so that the digest stays. Of a checkpoint only the selected files are copied.
    """
    listed = {entry.path: entry for entry in await store.list()}
    entries = {path: entry for path, entry in listed.items() if path not in BESIDE}
    for path in entries:
        if reason := path_refusal(path):
            raise ArtifactError("artifact_refused", f"{store.where}: {reason}", "publish safe formats only")
    whole = store.keeps_hashes or MANIFEST_NAME in listed
    for path in entries if whole else await _kept(store, entries):
        into = target / path
        into.parent.mkdir(parents=True, exist_ok=True)
        await _download(store, entries[path], into)


async def _kept(store: Store, entries: Mapping[str, StoreEntry]) -> Sequence[str]:
    documents = {
        name: await read_small(store, name, MAX_DOCUMENT_BYTES) for name in DOCUMENTS if name in entries
    }
    return select(tuple(entries), documents, store.where).kept(tuple(entries))


async def _download(store: Store, entry: StoreEntry, path: Path) -> None:
    digest, count = hashlib.sha256(), 0
    with path.open("xb") as out:
        if entry.size_bytes:
            async with aclosing(store.read(entry.path, 0, entry.size_bytes)) as pieces:
                async for piece in pieces:
                    count += len(piece)
                    digest.update(piece)
                    out.write(piece)
    if count != entry.size_bytes or (entry.sha256 and digest.hexdigest() != entry.sha256):
        path.unlink()
        raise ArtifactError(
            "digest_mismatch",
            f"{entry.path} from {store.where} does not match the store's list",
            "import the artifact again",
        )
