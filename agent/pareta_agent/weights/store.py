"""Weights store: fetches, prefetches, pins and evicts artifacts, each whole and verified or not at all.

The catalog decides the source of weights. Processes that share a root fetch an artifact once; an artifact in use by
one process is never evicted by another.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from pareta_agent.clock import Clock, SystemClock
from pareta_agent.weights import builtin, disk
from pareta_agent.weights.fetch_priority import FetchPriority
from pareta_agent.weights.fetch_progress import Meter
from pareta_agent.weights.lock import patiently
from pareta_agent.weights.settings import OnProgress, WeightsProgress, WeightsSettings
from pareta_agent.weights.store_paths import StorePaths
from pareta_agent.weights.thread import whole
from pareta_agent.weights.transfer import Transfer
from pareta_agent.weights.translate import registry_errors, short
from pareta_agent.weights.verify import is_complete, is_signed, verify_artifact
from pareta_registry.artifacts.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest
from pareta_registry.artifacts.stored_manifest import read_manifest
from pareta_registry.catalog import Artifact
from pareta_registry.errors import ArtifactError
from pareta_registry.files import FileLock
from pareta_registry.signing.model_signature import check_signature
from pareta_registry.stores import Store, open_store

_FEW = 2


@dataclass(frozen=True, slots=True)
class FetchJob:
    """One fetch. `ahead`: a prefetch, which never evicts other prefetched artifacts."""

    variant: Artifact
    progress: OnProgress
    code: bool
    settings: WeightsSettings
    ahead: bool = False


class WeightsStore:
    """The verified artifacts under `settings.root`. An artifact that `fetch` returned stays pinned until `unpin`."""

    def __init__(self, settings: WeightsSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._layout = StorePaths(settings.root)
        self._clock: Clock = clock or SystemClock()
        self._pins: Counter[str] = Counter()
        self._locks: dict[str, FileLock] = {}
        self._priority = FetchPriority()
        self._prefetched: dict[str, None] = {}

    async def fetch(self, variant: Artifact, progress: OnProgress, *, code: bool = False) -> Path:
        """The directory of a variant's or an adapter's artifact, fetched if missing, and pinned.

        With `code`, the artifact may hold a model's own Python. RegistryError for an artifact that is missing,
        altered or unreachable; HostError without space or access on this host. A partial fetch never has the final
        name, and resumes.
        """
        with self._priority.first():
            return await self._fetch(FetchJob(variant, progress, code, self._settings))

    async def prefetch(self, variant: Artifact, progress: OnProgress, *, code: bool = False) -> None:
        """Fetches ahead of need: on few connections, interrupted by every `fetch`.

        The artifact stays pinned until `release`, or until a `fetch` requires its space.
        """
        if variant.artifact in self._prefetched:
            return
        settings = replace(self._settings, connections=min(_FEW, self._settings.connections))

        async def work() -> None:
            await self._fetch(FetchJob(variant, progress, code, settings, ahead=True))

        await self._priority.after(work)
        self._prefetched[variant.artifact] = None

    def release(self, digest: str) -> None:
        """Makes a prefetched artifact evictable; without effect on others."""
        if digest in self._prefetched:
            del self._prefetched[digest]
            self.unpin(digest)

    async def _fetch(self, job: FetchJob) -> Path:
        digest = job.variant.artifact
        with disk.host_errors(self._settings.root, short(digest)):
            await asyncio.to_thread(self._settings.root.mkdir, parents=True, exist_ok=True)
            final = self._layout.artifact(digest)
            lock = self._locks.get(digest) or FileLock(self._layout.lock(digest))
            held = digest in self._locks
            try:
                here = held or lock.try_acquire(exclusive=False)
                if not here or not await asyncio.to_thread(self._is_here, final, digest):
                    await self._fetch_alone(job, final, lock)
            except BaseException:
                if not held:
                    lock.release()
                raise
            lock.touch()
            self._locks[digest] = lock
            self._pins[digest] += 1
            return final

    def unpin(self, digest: str) -> None:
        """Removes one pin. An artifact without pins may be evicted, by this or another process."""
        self._pins[digest] -= 1
        if self._pins[digest] <= 0:
            del self._pins[digest]
            self._locks.pop(digest).release()

    def has(self, digest: str) -> bool:
        """True if the artifact is complete by the cheap check: every file has its declared size."""
        return is_complete(self._layout.artifact(digest), digest)

    def digests(self) -> list[str]:
        """The artifacts in the store, least recently used first."""
        return self._layout.digests()

    async def verify(self, digest: str, progress: OnProgress) -> None:
        """Hashes every byte again. RegistryError `digest_mismatch` names the first wrong file."""
        with disk.host_errors(self._settings.root, short(digest)), registry_errors(digest):
            await verify_artifact(self._layout.artifact(digest), digest, self._clock, progress)

    async def remove(self, digest: str) -> bool:
        """Removes an artifact and the leftovers of an interrupted fetch. False while the artifact is in use."""
        lock = FileLock(self._layout.lock(digest))
        try:
            if digest in self._pins or not lock.try_acquire(exclusive=True):
                return False
            await whole(self._remove, digest)
            return True
        finally:
            lock.release()

    async def evict(self, need_bytes: int) -> None:
        """Removes unpinned artifacts, least recently used first, until `need_bytes` are free beside the reserve."""
        for digest in await asyncio.to_thread(self._layout.removable):
            if await asyncio.to_thread(self._has_room, need_bytes):
                return
            await self.remove(digest)

    def _has_room(self, need_bytes: int) -> bool:
        return disk.free_bytes(self._settings.root) - self._settings.reserve_bytes >= need_bytes

    async def _fetch_alone(self, job: FetchJob, final: Path, lock: FileLock) -> None:
        """Fetches under the exclusive lock, unless another process fetched meanwhile. Leaves the lock shared."""
        variant, progress, digest = job.variant, job.progress, job.variant.artifact

        def is_mine_or_here() -> bool:
            if lock.try_acquire(exclusive=True):
                return True
            if lock.try_acquire(exclusive=False) and self._is_here(final, digest):
                return True
            lock.release()
            return False

        waiting = WeightsProgress(
            "fetch", 0, variant.weights_bytes, "another process fetches the same artifact"
        )
        path = self._layout.lock(digest)
        await patiently(
            is_mine_or_here, path, self._clock, self._settings.lock_timeout_s, lambda: progress(waiting)
        )
        if not await asyncio.to_thread(self._is_here, final, digest):
            if await asyncio.to_thread(final.exists):
                await whole(self._remove, digest)  # damaged
            with registry_errors(digest):
                store = await self._open(variant, progress)
                try:
                    await self._bring(store, job, final)
                finally:
                    await store.close()
        lock.try_acquire(exclusive=False)

    async def _open(self, variant: Artifact, progress: OnProgress) -> Store:
        if builtin.is_builtin(variant.source):
            return await builtin.prepare(variant, self._settings, self._clock, progress)
        return open_store(variant.source, self._settings.stores)

    async def _bring(self, store: Store, job: FetchJob, final: Path) -> None:
        variant, digest = job.variant, job.variant.artifact
        manifest = await read_manifest(store, digest, variant.files)
        if manifest.code and not job.code:
            raise ArtifactError(
                "remote_code_refused",
                f"{store.where} holds code ({manifest.code[0]}), which requires the trust of catalog and node",
                "set `trust_remote_code` in the catalog's model and registry.trust_remote_code on this node",
            )
        bundle = await store.signature() if self._settings.trusted else None
        check_signature(bundle, manifest, self._settings.trusted, store.where)
        partial = self._layout.partial(digest)
        try:
            await self._transfer(store, manifest, job)
        except asyncio.CancelledError:
            if store.local_path(manifest.files[0].path) is not None:
                # A local artifact is linked again in a moment: the partial copy is not kept.
                await whole(self._remove, digest)
            raise
        await whole(self._publish, manifest, bundle, partial, final)

    async def _transfer(self, store: Store, manifest: Manifest, job: FetchJob) -> None:
        """Fetches every file into the partial directory. RegistryError or HostError on failure."""
        digest = job.variant.artifact
        partial = self._layout.partial(digest)
        left = await asyncio.to_thread(partial.exists)
        await whole(partial.mkdir, exist_ok=True)
        transfer = Transfer(
            store, manifest, partial, self._layout.journal(digest), job.settings, self._clock,
            Meter(manifest.total_bytes, self._clock, job.progress),
        )  # fmt: skip
        need_bytes, all_bytes = await transfer.prepare(), manifest.total_bytes
        if left and need_bytes < all_bytes:
            here = "an earlier start left a part, which is finished"
            job.progress(WeightsProgress("fetch", all_bytes - need_bytes, all_bytes, here))
        if need_bytes:
            await self.evict(need_bytes)
            while (
                self._prefetched and not job.ahead and not await asyncio.to_thread(self._has_room, need_bytes)
            ):
                self.release(next(iter(self._prefetched)))
                await self.evict(need_bytes)
            await asyncio.to_thread(
                disk.admit, self._settings.root, need_bytes, self._settings.reserve_bytes, short(digest)
            )
        await transfer.run()

    def _publish(self, manifest: Manifest, bundle: bytes | None, partial: Path, final: Path) -> None:
        (partial / MANIFEST_NAME).unlink(missing_ok=True)
        (partial / MANIFEST_NAME).write_bytes(manifest.to_bytes())
        (partial / SIGNATURE_NAME).unlink(missing_ok=True)
        if bundle is not None:
            (partial / SIGNATURE_NAME).write_bytes(bundle)
        disk.sync_tree(partial)
        disk.publish(partial, final)
        self._layout.journal(manifest.digest).unlink(missing_ok=True)

    def _is_here(self, final: Path, digest: str) -> bool:
        """True if whole, and signed where keys are pinned: an artifact from before the pinning is fetched again."""
        return is_complete(final, digest) and is_signed(final, self._settings.trusted)

    def _remove(self, digest: str) -> None:
        final, partial = self._layout.artifact(digest), self._layout.partial(digest)
        if final.exists():
            shutil.rmtree(partial, ignore_errors=True)
            final.rename(partial)  # half removed, it must not stand under its final name
        shutil.rmtree(partial, ignore_errors=True)
        self._layout.journal(digest).unlink(missing_ok=True)
