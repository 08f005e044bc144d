"""Spool: stores usage records durably, from before the caller has the end of the answer until delivery.

Records before the plane's first epoch are staged: durable but unnumbered, until the next epoch's chain takes them.
The spool has no notion of HTTP or prices.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pareta_agent.clock import Clock
from pareta_agent.contract.usage_event import SpoolEntry, item
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.errors import AgentError, HostError
from pareta_agent.meter.disk_budget import DiskBudget
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.meter.salvage import sound_store
from pareta_agent.meter.settings import SpoolSettings, SpoolStats, spool_path
from pareta_agent.meter.spool_lock import lock_spool
from pareta_agent.meter.sqlite_store import SpoolStore, StoreError
from pareta_agent.meter.writer import SpoolWriter
from pareta_registry.files import FileLock

__all__ = ["Spool", "SpoolSettings", "SpoolStats", "spool_path"]


class Spool:
    """The spool of one node; made by `open`. Methods are for the event loop's thread unless documented otherwise."""

    def __init__(
        self, path: Path, writer: SpoolWriter, lock: FileLock, settings: SpoolSettings, clock: Clock
    ) -> None:
        self._path, self._lock, self._settings, self._clock = path, lock, settings, clock
        self._reader = SpoolReader(path, settings.vfs)
        self._writer, self._queue = writer, writer.queue
        self._loop = asyncio.get_running_loop()
        self.inherited: tuple[Admission, ...] = ()

    @classmethod
    def open(cls, path: Path, settings: SpoolSettings, clock: Clock, *, shared: bool = False) -> Spool:
        """Opens or makes the spool, within a running loop; requests that a crash left open become records.

        With `shared`, the requests stay open as `inherited`: the previous agent still serves them.

        Raises HostError: `spool_locked` (with the other agent's pid), `spool_format`, `spool_of_another_node`,
        `spool_unusable` (with the disk's error).
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_spool(path.with_suffix(".lock"))
        try:
            store, salvaged = sound_store(path, settings, clock)
            disk_budget = DiskBudget(
                path, settings.max_bytes, settings.reserve_bytes, settings.disk_reserve_bytes
            )
            writer = SpoolWriter(path, store, disk_budget, settings, clock)
            spool = cls(path, writer, lock, settings, clock)
            spool.inherited = writer.begin(salvaged, shared=shared)
        except (StoreError, OSError) as error:
            lock.release()
            message = f"the spool at {path} cannot be used: {error}"
            raise HostError("spool_unusable", message, "check the disk") from error
        except AgentError:
            lock.release()
            raise
        writer.start()
        return spool

    def reopen(self) -> None:
        """Takes the spool back after `close`, with another agent's changes.

        Raises HostError `spool_locked`. Requests that are open by then become `inherited`.
        """
        self._lock = lock_spool(self._path.with_suffix(".lock"))
        store = SpoolStore(self._path, self._settings.node, self.id, self._settings.vfs)
        self._reader = SpoolReader(self._path, self._settings.vfs)
        self._writer.use(store)
        self.inherited = self._writer.begin(shared=True)
        self._writer.start()

    @property
    def id(self) -> str:
        """The permanent name of this file; part of the events' source."""
        return self._writer.store.spool_id

    # for gateway and fleet

    def can_admit(self) -> bool:
        """False when the disk budget is full or the writer has failed: admit nothing, answer 503."""
        return self._writer.error is None and not self._writer.disk_budget.full

    def admit(self, admission: Admission) -> None:
        """Stores an open request; durable within `admission_delay_s` and a commit. For any thread."""
        self._queue.put(admission, urgent=False)

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        """Closes an admission. The future is done once the record is durable, and raises HostError after a disk
        failure.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((record, future), urgent=True)
        return future

    def append_event(self, event_type: str, data: Mapping[str, Any]) -> asyncio.Future[None]:
        """Adds another kind of event to the same sequence; done once durable."""
        entry = item(event_type, data, self._clock.wall_s())
        return self._writer.call(lambda: self._writer.chains.append([entry], self._clock.wall_s()))

    # for heartbeat and uplink

    def begin_epoch(self, epoch: int) -> asyncio.Future[None]:
        """Ends the running epoch's chain and starts a new chain, which takes the staged records.

        The future raises PlaneError `epoch_not_new` unless `epoch` is above every epoch of this spool.
        """
        return self._writer.call(lambda: self._writer.chains.begin(epoch, self._clock.wall_s()))

    def end_epoch(self) -> asyncio.Future[None]:
        """Closes the epoch: this process writes no more, so a later gap was not planned."""
        return self._writer.call(lambda: self._writer.chains.end(self._clock.wall_s()))

    async def unacked(self, limit: int) -> list[SpoolEntry]:
        """Returns the oldest entries without an acknowledgement, all of one epoch; raises HostError for an unreadable
        disk.
        """
        try:
            return await asyncio.to_thread(self._reader.unacked, limit)
        except StoreError as error:
            raise HostError(
                "spool_unreadable", f"the spool cannot be read: {error}", "check the disk"
            ) from error

    def ack(self, epoch: int, sequence: int, digest: bytes) -> asyncio.Future[bool]:
        """Marks everything up to `sequence` delivered; changes nothing and returns False unless `digest` is the hash
        here.
        """
        return self._writer.call(lambda: self._writer.chains.ack(epoch, sequence, digest))

    def rewind(self, epoch: int, expected: int) -> asyncio.Future[int | None]:
        """Makes `expected`, or the first stored sequence after, the next to send; returns that sequence, or None."""
        return self._writer.call(lambda: self._writer.chains.rewind(epoch, expected))

    def quarantine(self, epoch: int, rejected: list[tuple[int, str]]) -> asyncio.Future[None]:
        """Stores the plane's reasons for events that the plane refused for good."""
        return self._writer.call(
            lambda: self._writer.chains.quarantine(epoch, rejected, self._clock.wall_s())
        )

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` on the loop after each commit that added events."""
        self._writer.listeners.append(listener)

    def epochs(self) -> dict[int, tuple[int, int]]:
        """Returns (last, acked) sequence by epoch, as of the last commit."""
        chains = self._writer.chains
        return {epoch: (last, chains.acked[epoch]) for epoch, last in chains.last.items()}

    def stats(self) -> SpoolStats:
        writer, chains, head = self._writer, self._writer.chains, self._writer.chains.head
        pending = sum(last - acked for last, acked in self.epochs().values())
        return SpoolStats(
            epoch=head.epoch if head else 0,
            last_seq=head.sequence if head else 0,
            last_hash=head.hash.hex() if head else "",
            acked_seq=chains.acked[head.epoch] if head else 0,
            admitted=writer.admitted,
            terminal=writer.terminal,
            open=len(writer.open),
            unacked=pending + chains.staged,
            quarantined=chains.quarantined,
            bytes=writer.disk_budget.used_bytes,
            used_ratio=writer.disk_budget.used_ratio,
            failed=writer.error is not None,
        )

    async def flush(self, timeout_s: float) -> None:
        """Waits until all earlier writes are durable; raises TimeoutError past `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            await self._writer.call(lambda: None)

    async def guard(self) -> None:
        """Raises HostError `spool_failed` once the disk has failed: the node must end, because metering is
        impossible.
        """
        await self._writer.broken.wait()
        raise self._writer.failure()

    def close(self) -> None:
        """Writes queued jobs, ends the thread and releases the lock."""
        self._writer.stop()
        with contextlib.suppress(StoreError):
            self._reader.close()
            self._writer.store.close()
        self._lock.release()
