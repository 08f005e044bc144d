"""An artifact out of any store into a new directory, file by file: what `import` of a mirror or a registry needs.

Nodes fetch in parallel and resume; this is the publisher's side, once, and simple.
"""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from pathlib import Path

from pareta_registry.errors import ArtifactError
from pareta_registry.manifest import BESIDE, path_refusal
from pareta_registry.stores.base import Entry, Store


async def download(store: Store, target: Path) -> None:
    """Writes every file that an artifact may hold; ArtifactError when one is cut, altered or refused."""
    entries = [entry for entry in await store.list() if entry.path not in BESIDE]
    for entry in entries:
        reason = path_refusal(entry.path)
        if reason:
            raise ArtifactError("artifact_refused", f"{store.where}: {reason}", "publish safe formats only")
        path = target / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        await _download(store, entry, path)


async def _download(store: Store, entry: Entry, path: Path) -> None:
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
            f"{entry.path} from {store.where} is not what is listed there",
            "import it again",
        )
