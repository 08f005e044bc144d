"""Spool switch: sends the gateway's records to this process's spool, or to the successor.

While the spool's file changes owner, records wait. A waiting record is not durable, so the caller waits too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.gateway.ports import UsageSpool
from pareta_agent.node.upgrade.successor import Unanswered

Job = Admission | tuple[UsageRecord, asyncio.Future[None]]


class SpoolSwitch:
    """The gateway's spool; refuses admissions that the node's lease does not cover."""

    def __init__(self, spool: UsageSpool, may_admit: Callable[[], bool]) -> None:
        self._spool: UsageSpool = spool
        self._may_admit = may_admit
        self._paused: list[Job] | None = None

    def can_admit(self) -> bool:
        return self._spool.can_admit() and self._may_admit()

    def admit(self, admission: Admission) -> None:
        if self._paused is None:
            self._spool.admit(admission)
        else:
            self._paused.append(admission)

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        if self._paused is None:
            return self._spool.finish(record)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._paused.append((record, future))
        return future

    def pause(self) -> None:
        """Admissions and records wait for `resume` from now on."""
        self._paused = []

    def take_back(self, left: Unanswered, open_ids: Collection[str]) -> None:
        """Queues the records again that the other agent may not have written, and confirms the rest.

        The other agent has closed every inherited request that is not among `open_ids`. Later admitted requests are
        uncertain; the plane counts a request once, however often the record arrives.
        """
        since = {each.request_id for each in left.admitted}
        self._paused = [*left.admitted]
        for record, future in left.records:
            if record.admission.request_id in (*since, *open_ids):
                self._paused.append((record, future))
            elif not future.done():
                future.set_result(None)

    def resume(self, spool: UsageSpool, may_admit: Callable[[], bool]) -> None:
        """Sends everything to `spool` from now on, the waiting admissions and records first."""
        self._spool, self._may_admit = spool, may_admit
        waited, self._paused = self._paused or [], None
        for job in waited:
            if isinstance(job, Admission):
                spool.admit(job)
            else:
                _join(spool.finish(job[0]), job[1])


def _join(done: asyncio.Future[None], waiting: asyncio.Future[None]) -> None:
    def settle(done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    done.add_done_callback(settle)
