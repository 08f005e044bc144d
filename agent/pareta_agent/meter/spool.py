"""Where usage records are safe: durable before the caller hears the end, kept until the control plane has them.

One thread writes. It commits as soon as its previous commit returned, so that load makes the groups; an admission
alone may wait a few milliseconds for company. Records that come before the plane gave an epoch are staged, durable
but unnumbered, and take their places in the next epoch's chain. It knows nothing of HTTP or prices.
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
    """One node's spool; made by `open`. Every method is for the event loop's thread unless it says otherwise."""

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
        self._young, self._crowded = list[Admission](), False
        self.inherited: tuple[Admission, ...] = ()
        self._admitted = self._terminal = 0
        self._error: BaseException | None = None
        self._broken = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._thread = self._new_thread()

    @classmethod
    def open(cls, path: Path, settings: SpoolSettings, clock: Clock, *, shared: bool = False) -> Spool:
        """Opens or makes the spool, within a running loop; requests that a crash left open become records.

        With `shared` they stay open as `inherited`: the agent that had it before still works on them.

        Raises HostError: `spool_locked` (names the other agent's pid), `spool_format`, `spool_of_another_node`,
        `spool_unusable` (the disk's error).
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
        """Takes back, after `close`, what another agent had meanwhile.

        Raises HostError `spool_locked`. What was open then is `inherited`.
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
        """Names this file for ever; part of its events' source."""
        return self._store.spool_id

    # what the front and the fleet say

    def can_admit(self) -> bool:
        """False when a record might not find room or the writer has failed: admit nothing, answer 503."""
        return self._error is None and not self._disk_budget.full

    def admit(self, admission: Admission) -> None:
        """Notes an open request; on disk within `admission_delay_s` and a commit. For any thread."""
        self._inbox.put(admission, urgent=False)

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        """Closes an admission. Done once the record is on disk; raises HostError if it never will be."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._inbox.put((record, future), urgent=True)
        return future

    def append_event(self, event_type: str, data: Mapping[str, Any]) -> asyncio.Future[None]:
        """Adds another kind of event to the same sequence; done once on disk."""
        entry = item(event_type, data, self._clock.wall_s())
        return self._call(lambda: self._journal.append([entry], self._clock.wall_s()))

    # what the heartbeat and the uplink say

    def begin_epoch(self, epoch: int) -> asyncio.Future[None]:
        """Ends the running epoch's chain and starts one; staged records follow into it.

        The future raises PlaneError `epoch_not_new` unless `epoch` is above every epoch this spool has seen.
        """
        return self._call(lambda: self._journal.begin(epoch, self._clock.wall_s()))

    def end_epoch(self) -> asyncio.Future[None]:
        """Notes that this process means to write no more under its epoch: what comes after it was not planned."""
        return self._call(lambda: self._journal.end(self._clock.wall_s()))

    async def unacked(self, limit: int) -> list[SpoolEntry]:
        """The oldest entries without an ack, all of one epoch; raises HostError when the disk does not give them."""
        try:
            return await asyncio.to_thread(self._reader.unacked, limit)
        except StoreError as error:
            raise HostError(
                "spool_unreadable", f"the spool cannot be read: {error}", "check the disk"
            ) from error

    def ack(self, epoch: int, sequence: int, digest: bytes) -> asyncio.Future[bool]:
        """Marks everything up to `sequence` delivered; False, and nothing done, unless `digest` is its hash here."""
        return self._call(lambda: self._journal.ack(epoch, sequence, digest))

    def rewind(self, epoch: int, expected: int) -> asyncio.Future[int | None]:
        """Makes `expected`, or the first after it that is still kept, the next to send; answers which, None if none."""
        return self._call(lambda: self._journal.rewind(epoch, expected))

    def quarantine(self, epoch: int, rejected: list[tuple[int, str]]) -> asyncio.Future[None]:
        """Notes events that the plane refused for good, with its reasons."""
        return self._call(lambda: self._journal.quarantine(epoch, rejected, self._clock.wall_s()))

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` on the loop after each commit that added events."""
        self._listeners.append(listener)

    def epochs(self) -> dict[int, tuple[int, int]]:
        """(last, acked) sequence by epoch, as of the last commit."""
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
        """Waits until everything said so far is on disk; raises TimeoutError past `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            await self._call(lambda: None)

    async def guard(self) -> None:
        """Raises HostError `spool_failed` once the disk has failed: the node must end, for it cannot meter."""
        await self._broken.wait()
        raise self._failure()

    def close(self) -> None:
        """Writes what is queued, ends the thread and gives the lock back."""
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
        """Unless the disk has failed before; where it fails at this, it has."""
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
        if self._crowded:  # a commit costs about the same for one record and for thirty
            time.sleep(self._settings.company_s)
        idle_s = 0.0 if self._journal.unnumbered else delay_s if self._young else 1.0
        more = True
        for job in (*self._young, *self._inbox.take(self._settings.batch, idle_s, delay_s)):
            more = more and job is not None
            batch.add(job)
        self._young = batch.postpone(self._clock.wall_s(), delay_s) if more else []
        self._crowded = len(batch.records) >= self._settings.crowd
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
