"""Spool writer: a thread that writes admissions, records and operations in groups, one transaction a group.

The thread commits again as soon as the previous commit returned: load makes the groups. A lone admission may wait a few
milliseconds for company.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pareta_agent.clock import Clock
from pareta_agent.contract.usage_event import Item, finished
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.errors import HostError
from pareta_agent.meter.chain import ChainState
from pareta_agent.meter.commit import Commit, Operation
from pareta_agent.meter.disk_budget import DiskBudget
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.sqlite_store import Damaged, DiskFull, SpoolStore, StoreError
from pareta_agent.meter.write_queue import WriteQueue

T = TypeVar("T")
Job = Admission | tuple[UsageRecord, asyncio.Future[None]] | Operation | None


class SpoolWriter:
    """The only user of store and chains while the thread runs; the event loop's thread reads the counts."""

    def __init__(
        self, path: Path, store: SpoolStore, disk_budget: DiskBudget, settings: SpoolSettings, clock: Clock
    ) -> None:
        self._path, self._settings, self._clock = path, settings, clock
        self._loop = asyncio.get_running_loop()
        self.queue: WriteQueue[Job] = WriteQueue()
        self.store, self.chains, self.disk_budget = store, ChainState(store), disk_budget
        self.open: set[str] = set()
        self._young, self._grouped = list[Admission](), False
        self.admitted = self.terminal = 0
        self.error: BaseException | None = None
        self.broken = asyncio.Event()
        self.listeners: list[Callable[[], None]] = []
        self._thread = self._new_thread()

    def use(self, store: SpoolStore) -> None:
        """Replaces the store, while no thread runs."""
        self.store, self.chains = store, ChainState(store)
        self._thread = self._new_thread()

    def begin(self, salvaged: Sequence[Item] = (), *, shared: bool) -> tuple[Admission, ...]:
        """Repairs the chains and closes open requests, before `start`; with `shared` returns the open requests."""
        inherited = self.chains.admitted() if shared else ()
        self.open = {each.request_id for each in inherited}
        ended = self.chains.recover(self._clock.wall_s(), salvaged, spare=shared)
        self.admitted, self.terminal = ended + len(self.open), ended
        self._keep_house()
        return inherited

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Writes queued jobs and ends the thread."""
        self.queue.put(None, urgent=True)
        self._thread.join()

    def call(self, apply: Callable[[], T]) -> asyncio.Future[T]:
        """Runs `apply` inside the next transaction; the future has the result once durable."""
        future: asyncio.Future[T] = self._loop.create_future()
        self.queue.put(Operation(apply, future), urgent=True)
        return future

    def failure(self) -> HostError:
        message = f"the spool cannot be written: {self.error}"
        return HostError("spool_failed", message, "check the disk, then restart")

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="spool", daemon=True)

    def _run(self) -> None:
        more = True
        while more:
            commit, before = Commit(), self.chains.head
            more = self._collect(commit)
            if commit or self.chains.unnumbered:
                self._try(self._write, commit)
            self._wake(commit, grew=self.chains.head != before)
            self._try(self._keep_house)

    def _try(self, work: Callable[..., None], *given: Commit) -> None:
        """Runs the work unless the disk failed before; an error of the disk is final."""
        try:
            if self.error is None:
                work(*given)
        except (StoreError, OSError) as error:
            self.error = error
            if isinstance(error, Damaged):
                self._path.with_suffix(".suspect").touch()

    def _collect(self, commit: Commit) -> bool:
        """Fills `commit` with the jobs to write now; False at the end of the queue's life."""
        delay_s = self._settings.admission_delay_s
        if self._grouped:  # a commit costs about the same for one record and for thirty
            time.sleep(self._settings.group_wait_s)
        idle_s = 0.0 if self.chains.unnumbered else delay_s if self._young else 1.0
        more = True
        for job in (*self._young, *self.queue.take(self._settings.batch, idle_s, delay_s)):
            more = more and job is not None
            commit.add(job)
        self._young = commit.postpone(self._clock.wall_s(), delay_s) if more else []
        self._grouped = len(commit.records) >= self._settings.group_from
        return more

    def _write(self, commit: Commit) -> None:
        try:
            self._transact(commit)
        except DiskFull:
            self.disk_budget.give_up_reserve()
            self._transact(commit)
        self._count(commit)

    def _transact(self, commit: Commit) -> None:
        opened, closed = commit.moves(self.open)
        now_s = self._clock.wall_s()
        with self.chains.transaction():
            self.chains.move(opened, closed)
            self.chains.append([finished(record) for record, _ in commit.records], now_s)
            for call in commit.calls:
                call.run()
            if self.chains.unnumbered:
                self.chains.adopt(now_s)

    def _count(self, commit: Commit) -> None:
        opened, closed = {each.request_id for each in commit.admissions}, commit.closed
        self.admitted += len((opened | closed) - self.open)
        self.terminal += len(closed)
        self.open = (self.open | opened) - closed

    def _wake(self, commit: Commit, *, grew: bool = False) -> None:
        if not (commit or grew or self.error):
            return
        failure = None if self.error is None else self.failure()
        listeners = (self.broken.set,) if failure else tuple(self.listeners) if grew else ()
        with contextlib.suppress(RuntimeError):  # the loop is closed: no caller waits any more
            self._loop.call_soon_threadsafe(commit.resolve, failure, listeners)

    def _keep_house(self) -> None:
        mono_s, now_s = self._clock.mono_s(), self._clock.wall_s()
        if not self.disk_budget.due(mono_s):
            return
        self.disk_budget.measure(self.store.used_bytes(), mono_s)
        horizon_s = now_s + 1 if self.disk_budget.tight else now_s - self._settings.keep_acked_s
        with contextlib.suppress(DiskFull):  # a delete requires space as well
            self.chains.trim(horizon_s)
