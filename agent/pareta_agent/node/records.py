"""Where the front's records go: this process's spool, or the agent that takes over from it.

While the spool's file changes hands, they wait; a record that waits is not durable, so its caller waits too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from pareta_agent.front.ports import UsageSpool
from pareta_agent.meter.record import Admission, UsageRecord
from pareta_agent.node.heir import Unanswered

Job = Admission | tuple[UsageRecord, asyncio.Future[None]]


class Records:
    """The spool as the front sees it: it also refuses what the lease does not cover."""

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
        """What comes from now on waits for `go_on`."""
        self._paused = []

    def take_back(self, left: Unanswered, open_ids: Collection[str]) -> None:
        """What another agent may not have written comes again; what it certainly has is only told.

        It closed what it had taken over open and is not among `open_ids`; of what was admitted since nothing is
        certain, and the plane counts a request once however often it is told.
        """
        since = {each.request_id for each in left.admitted}
        self._paused = [*left.admitted]
        for record, future in left.records:
            if record.admission.request_id in (*since, *open_ids):
                self._paused.append((record, future))
            elif not future.done():
                future.set_result(None)

    def go_on(self, spool: UsageSpool, may_admit: Callable[[], bool]) -> None:
        """From now on `spool` takes them, those that waited first."""
        self._spool, self._may_admit = spool, may_admit
        waited, self._paused = self._paused or [], None
        for job in waited:
            if isinstance(job, Admission):
                spool.admit(job)
            else:
                _join(spool.finish(job[0]), job[1])


def _join(done: asyncio.Future[None], waiting: asyncio.Future[None]) -> None:
    def tell(done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    done.add_done_callback(tell)
