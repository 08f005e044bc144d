"""Transfer: fetches an artifact's files into a directory, in parts, in parallel, hashed on the way, resumable.

Trusts neither the store nor an earlier attempt: a file passes only with the right sha256. `store` renames the
directory.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pareta_agent.clock import Clock
from pareta_agent.weights.disk import share
from pareta_agent.weights.fetch_progress import Meter
from pareta_agent.weights.part import Part, PartFetcher, Update
from pareta_agent.weights.part_journal import PartJournal
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.thread import whole
from pareta_registry.artifacts.manifest import Manifest
from pareta_registry.errors import ArtifactError
from pareta_registry.files import sync
from pareta_registry.stores import Store

_HASH_BYTES = 1 << 18  # what a core keeps at hand


class Transfer:
    """One fetch of one artifact into `target`, which has no other writer. `journal` lies beside `target` and stays."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        target: Path,
        journal: Path,
        settings: WeightsSettings,
        clock: Clock,
        meter: Meter,
    ) -> None:
        self._store = store
        self._local = store.local_path
        self._manifest = manifest
        self._target = target
        self._settings = settings
        self._meter = meter
        self._journal = PartJournal(journal, f"{manifest.digest} {settings.part_bytes}")
        self._fetcher = PartFetcher(store, target, settings, clock, meter.fetched)
        self._arrived: dict[Part, asyncio.Event] = {}
        self._turns: dict[Part, Update] = {}
        self._hashed: set[Part] = set()
        self._hashers = asyncio.Semaphore(max(2, os.cpu_count() or 2))

    async def prepare(self) -> int:
        """Reads the state of an earlier attempt; returns the bytes that are still to be written."""
        await whole(self._prepare)
        return sum(
            sum(part.size_bytes for part in self._parts(index) if not self._is_done(part))
            for index, file in enumerate(self._manifest.files)
            if not self._local(file.path)
        )

    async def run(self) -> None:
        """Fetches all files, whole and verified; ArtifactError or OSError otherwise.

        A wrong file is fetched once more from scratch: the first bytes may be an older attempt's, from before a power
        cut.
        """
        wrong = await self._pass(range(len(self._manifest.files)))
        if wrong:
            wrong = await self._pass(wrong)
        if wrong:
            file = self._manifest.files[wrong[0]]
            raise ArtifactError(
                "digest_mismatch",
                f"{file.path} from {self._store.where} does not match its manifest (sha256 {file.sha256})",
                "publish the artifact again, and check for a proxy or a disk that alters bytes",
            )

    def _prepare(self) -> None:
        self._journal.open()
        for index, file in enumerate(self._manifest.files):
            path = self._target / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            size = path.stat().st_size if path.is_file() else -1
            if size >= 0 and not self._local(file.path):
                path.chmod(0o644)  # an earlier attempt that reached publishing left the file read-only
            if size < max((part.stop for part in self._parts(index) if self._is_done(part)), default=0):
                self._journal.forget(index)
            if size < 0 and not self._local(file.path):
                path.touch()

    async def _pass(self, indexes: Sequence[int]) -> list[int]:
        """Fetches and hashes the given files; returns, and forgets, the files with a wrong sha256."""
        files = self._manifest.files
        self._turns, self._hashed = {}, set()
        self._arrived = {part: asyncio.Event() for index in indexes for part in self._parts(index)}
        kept_bytes = 0
        for part, arrived in self._arrived.items():
            if self._is_done(part):
                arrived.set()
                kept_bytes += part.size_bytes
        settled_bytes = self._manifest.total_bytes - sum(files[index].size_bytes for index in indexes)
        self._meter.restart(settled_bytes + kept_bytes, settled_bytes)
        missing = [p for p, arrived in self._arrived.items() if not (arrived.is_set() or self._local(p.path))]
        queue = iter(
            sorted(missing, key=lambda part: (part.index, part.file))
        )  # several files' hashes at once
        try:
            async with asyncio.TaskGroup() as tasks:
                verdicts = [tasks.create_task(self._verify(index)) for index in indexes]
                for _ in range(min(self._settings.connections, len(missing))):
                    tasks.create_task(self._work(queue))
        except* (ArtifactError, OSError) as group:
            raise _first(group) from None
        wrong = [index for index, verdict in zip(indexes, verdicts, strict=True) if not verdict.result()]
        for index in wrong:
            await whole(self._journal.forget, index)
        return wrong

    async def _work(self, queue: Iterator[Part]) -> None:
        for part in queue:
            update = self._turns.get(part)
            await self._fetcher.fetch(part, update)
            if update:
                self._hashed.add(part)
            await whole(self._journal.add, part.file, part.index)
            self._arrived[part].set()

    async def _verify(self, index: int) -> bool:
        """True if the file's sha256 is right. Hashes the parts in order as they arrive.

        A part that arrives in turn is hashed from memory, every other part from the page cache.
        """
        file = self._manifest.files[index]
        path = self._target / file.path
        local = self._local(file.path)
        if local:
            await whole(share, local, path)
            self._meter.fetched(file.size_bytes)
        digest = hashlib.sha256()
        for part in self._parts(index):
            if not local and not self._arrived[part].is_set():
                self._turns[part] = digest.update
                await self._arrived[part].wait()
            if part not in self._hashed:
                async with self._hashers:
                    await whole(hash_range, path, part.start, part.stop, digest.update)
            self._meter.hashed(part.size_bytes)
        size = await whole(os.path.getsize, path)
        await whole(sync, path)
        return digest.hexdigest() == file.sha256 and size == file.size_bytes

    def _parts(self, index: int) -> Iterator[Part]:
        file, step = self._manifest.files[index], self._settings.part_bytes
        for number, start in enumerate(range(0, file.size_bytes, step)):
            yield Part(index, number, file.path, start, min(start + step, file.size_bytes))

    def _is_done(self, part: Part) -> bool:
        return (part.file, part.index) in self._journal.done


def hash_range(path: Path, start: int, stop: int, update: Update) -> None:
    """Passes the bytes [start, stop) of a file to `update`."""
    buffer = memoryview(bytearray(min(_HASH_BYTES, max(1, stop - start))))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < stop and (count := file.readinto(buffer[: stop - start])):
            update(buffer[:count])
            start += count


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    failure: BaseException = group
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
