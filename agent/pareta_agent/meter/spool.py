"""Spool: stores usage records durably, from before the caller has the end of the answer until delivery.

One thread writes, and commits again as soon as the previous commit returned: load makes the groups. A lone admission
may wait a few milliseconds for company.

Records before the plane's first epoch are staged: durable but unnumbered, until the next epoch's chain takes them.
The spool has no notion of HTTP or prices.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pareta_agent.clock import Clock
from pareta_agent.errors import AgentError, HostError
from pareta_agent.meter.batch import Commit, Operation
from pareta_agent.meter.event import Item, SpoolEntry, finished, item
from pareta_agent.meter.inbox import WriteQueue
from pareta_agent.meter.journal import ChainState
from pareta_agent.meter.lock import lock_spool
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.meter.record import Admission, UsageRecord
from pareta_agent.meter.room import DiskBudget
from pareta_agent.meter.salvage import sound_store
from pareta_agent.meter.settings import SpoolSettings, spool_path
from pareta_agent.meter.stats import SpoolStats
from pareta_agent.meter.store import Damaged, DiskFull, SpoolStore, StoreError
from pareta_registry.files import FileLock

__all__ = ["Spool", "SpoolSettings", "SpoolStats", "spool_path"]

T = TypeVar("T")
Job = Admission | tuple[UsageRecord, asyncio.Future[None]] | Operation | None


class Spool:
    """The spool of one node; made by `open`. Methods are for the event loop's thread unless documented otherwise."""

    def __init__(
        self,
        path: Path,
        store: SpoolStore,
        lock: FileLock,
        disk_budget: DiskBudget,
        settings: SpoolSettings,
        clock: Clock,
    ) -> None:
        self._path, self._store, self._lock, self._disk_budget = path, store, lock, disk_budget
        self._reader = SpoolReader(path, settings.vfs)
        self._settings, self._clock = settings, clock
        self._loop = asyncio.get_running_loop()
        self._inbox: WriteQueue[Job] = WriteQueue()
        self._journal = ChainState(store)
        self._open: set[str] = set()
        self._young, self._grouped = list[Admission](), False
        self.inherited: tuple[Admission, ...] = ()
        self._admitted = self._terminal = 0
        self._error: BaseException | None = None
        self._broken = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._thread = self._new_thread()

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
            spool = cls(path, store, lock, disk_budget, settings, clock)
            spool._begin(salvaged, shared=shared)
        except (StoreError, OSError) as error:
            lock.release()
            message = f"the spool at {path} cannot be used: {error}"
            raise HostError("spool_unusable", message, "check the disk") from error
        except AgentError:
            lock.release()
            raise
        spool._thread.start()
        return spool

    def _begin(self, salvaged: Sequence[Item] = (), *, shared: bool) -> None:
        self.inherited = self._journal.admitted() if shared else ()
        self._open = {each.request_id for each in self.inherited}
        ended = self._journal.recover(self._clock.wall_s(), salvaged, spare=shared)
        self._admitted, self._terminal = ended + len(self._open), ended
        self._keep_house()

    def reopen(self) -> None:
        """Takes the spool back after `close`, with another agent's changes.

        Raises HostError `spool_locked`. Requests that are open by then become `inherited`.
        """
        self._lock = lock_spool(self._path.with_suffix(".lock"))
        self._store = SpoolStore(self._path, self._settings.node, self.id, self._settings.vfs)
        self._reader = SpoolReader(self._path, self._settings.vfs)
        self._journal = ChainState(self._store)
        self._begin(shared=True)
        self._thread = self._new_thread()
        self._thread.start()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="spool", daemon=True)

    @property
    def id(self) -> str:
        """The permanent name of this file; part of the events' source."""
        return self._store.spool_id

    # for gateway and fleet

    def can_admit(self) -> bool:
        """False when the disk budget is full or the writer has failed: admit nothing, answer 503."""
        return self._error is None and not self._disk_budget.full

    def admit(self, admission: Admission) -> None:
        """Stores an open request; durable within `admission_delay_s` and a commit. For any thread."""
        self._inbox.put(admission, urgent=False)

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        """Closes an admission. The future is done once the record is durable, and raises HostError after a disk
        failure.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self._inbox.put((record, future), urgent=True)
        return future

    def append_event(self, event_type: str, data: Mapping[str, Any]) -> asyncio.Future[None]:
        """Adds another kind of event to the same sequence; done once durable."""
        entry = item(event_type, data, self._clock.wall_s())
        return self._call(lambda: self._journal.append([entry], self._clock.wall_s()))

    # for heartbeat and uplink

    def begin_epoch(self, epoch: int) -> asyncio.Future[None]:
        """Ends the running epoch's chain and starts a new chain, which takes the staged records.

        The future raises PlaneError `epoch_not_new` unless `epoch` is above every epoch of this spool.
        """
        return self._call(lambda: self._journal.begin(epoch, self._clock.wall_s()))

    def end_epoch(self) -> asyncio.Future[None]:
        """Closes the epoch: this process writes no more, so a later gap was not planned."""
        return self._call(lambda: self._journal.end(self._clock.wall_s()))

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
        return self._call(lambda: self._journal.ack(epoch, sequence, digest))

    def rewind(self, epoch: int, expected: int) -> asyncio.Future[int | None]:
        """Makes `expected`, or the first stored sequence after, the next to send; returns that sequence, or None."""
        return self._call(lambda: self._journal.rewind(epoch, expected))

    def quarantine(self, epoch: int, rejected: list[tuple[int, str]]) -> asyncio.Future[None]:
        """Stores the plane's reasons for events that the plane refused for good."""
        return self._call(lambda: self._journal.quarantine(epoch, rejected, self._clock.wall_s()))

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` on the loop after each commit that added events."""
        self._listeners.append(listener)

    def epochs(self) -> dict[int, tuple[int, int]]:
        """Returns (last, acked) sequence by epoch, as of the last commit."""
        return {epoch: (last, self._journal.acked[epoch]) for epoch, last in self._journal.last.items()}

    def stats(self) -> SpoolStats:
        journal, head = self._journal, self._journal.head
        pending = sum(last - acked for last, acked in self.epochs().values())
        return SpoolStats(
            epoch=head.epoch if head else 0,
            last_seq=head.sequence if head else 0,
            last_hash=head.hash.hex() if head else "",
            acked_seq=journal.acked[head.epoch] if head else 0,
            admitted=self._admitted,
            terminal=self._terminal,
            open=len(self._open),
            unacked=pending + journal.staged,
            quarantined=journal.quarantined,
            bytes=self._disk_budget.used_bytes,
            used_ratio=self._disk_budget.used_ratio,
            failed=self._error is not None,
        )

    async def flush(self, timeout_s: float) -> None:
        """Waits until all earlier writes are durable; raises TimeoutError past `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            await self._call(lambda: None)

    async def guard(self) -> None:
        """Raises HostError `spool_failed` once the disk has failed: the node must end, because metering is
        impossible.
        """
        await self._broken.wait()
        raise self._failure()

    def close(self) -> None:
        """Writes queued jobs, ends the thread and releases the lock."""
        self._inbox.put(None, urgent=True)
        self._thread.join()
        with contextlib.suppress(StoreError):
            self._reader.close()
            self._store.close()
        self._lock.release()

    # the writer thread

    def _call(self, apply: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put(Operation(apply, future), urgent=True)
        return future

    def _run(self) -> None:
        more = True
        while more:
            batch, before = Commit(), self._journal.head
            more = self._collect(batch)
            if batch or self._journal.unnumbered:
                self._try(self._write, batch)
            self._wake(batch, grew=self._journal.head != before)
            self._try(self._keep_house)

    def _try(self, work: Callable[..., None], *given: Commit) -> None:
        """Runs the work unless the disk failed before; an error of the disk is final."""
        try:
            if self._error is None:
                work(*given)
        except (StoreError, OSError) as error:
            self._error = error
            if isinstance(error, Damaged):
                self._path.with_suffix(".suspect").touch()

    def _collect(self, batch: Commit) -> bool:
        """Fills `batch` with what is to be written now; False at the end of the inbox's life."""
        delay_s = self._settings.admission_delay_s
        if self._grouped:  # a commit costs about the same for one record and for thirty
            time.sleep(self._settings.group_wait_s)
        idle_s = 0.0 if self._journal.unnumbered else delay_s if self._young else 1.0
        more = True
        for job in (*self._young, *self._inbox.take(self._settings.batch, idle_s, delay_s)):
            more = more and job is not None
            batch.add(job)
        self._young = batch.postpone(self._clock.wall_s(), delay_s) if more else []
        self._grouped = len(batch.records) >= self._settings.group_from
        return more

    def _write(self, batch: Commit) -> None:
        try:
            self._transact(batch)
        except DiskFull:
            self._disk_budget.give_up_reserve()
            self._transact(batch)
        self._count(batch)

    def _transact(self, batch: Commit) -> None:
        opened, closed = batch.moves(self._open)
        now_s = self._clock.wall_s()
        with self._journal.transaction():
            self._journal.move(opened, closed)
            self._journal.append([finished(record) for record, _ in batch.records], now_s)
            for call in batch.calls:
                call.run()
            if self._journal.unnumbered:
                self._journal.adopt(now_s)

    def _count(self, batch: Commit) -> None:
        opened, closed = {each.request_id for each in batch.admissions}, batch.closed
        self._admitted += len((opened | closed) - self._open)
        self._terminal += len(closed)
        self._open = (self._open | opened) - closed

    def _wake(self, batch: Commit, *, grew: bool = False) -> None:
        if not (batch or grew or self._error):
            return
        failure = None if self._error is None else self._failure()
        listeners = (self._broken.set,) if failure else tuple(self._listeners) if grew else ()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(batch.resolve, failure, listeners)

    def _failure(self) -> HostError:
        message = f"the spool cannot be written: {self._error}"
        return HostError("spool_failed", message, "check the disk, then restart")

    def _keep_house(self) -> None:
        mono_s, now_s = self._clock.mono_s(), self._clock.wall_s()
        if not self._disk_budget.due(mono_s):
            return
        self._disk_budget.measure(self._store.used_bytes(), mono_s)
        horizon_s = now_s + 1 if self._disk_budget.tight else now_s - self._settings.keep_acked_s
        with contextlib.suppress(DiskFull):  # dropping takes space as well
            self._journal.trim(horizon_s)
