"""An admitted call as the books know it: opened once, settled once, whatever happened to the call in between.

Everything that counts an admitted call stands here, so that who runs it need not be in the process that counts it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from pareta_agent.front.admission import Target
from pareta_agent.front.body import Ask
from pareta_agent.front.envelope import Problem
from pareta_agent.front.replays import Scope
from pareta_agent.front.settle import bounds_of, most_of, prompt_bytes
from pareta_agent.front.tally import Bill, count
from pareta_agent.meter.record import Admission, UsageRecord

if TYPE_CHECKING:
    from pareta_agent.front.desk import Desk


class Ticket(Protocol):
    """What a run holds. `target` is where it was admitted to."""

    admission: Admission
    target: Target

    def lost(self, target: Target, ask: Ask) -> None:
        """The engine's connection ended while it worked on the call."""

    def moved(self, target: Target) -> None:
        """The call goes on at another replica."""

    def settle(
        self, record: UsageRecord, status: int, refused: bool, document: bytes | None
    ) -> asyncio.Future[None]:
        """Closes the admission; done when the record is durable. `status` is what the caller is to get, 499 if it
        left; `refused`: the engine would not work on it; `document` answers the same call again."""


class Booked:
    """A ticket whose books are in this process."""

    def __init__(
        self, desk: Desk, admission: Admission, ask: Ask, target: Target, bill: Bill, scope: Scope | None
    ) -> None:
        self.admission, self.target = admission, target
        self._desk, self._bill, self._scope, self._copies = desk, bill, scope, ask.n
        endpoint = target.endpoint
        self._most = most_of(bounds_of(ask, endpoint), prompt_bytes(ask, endpoint))
        self._entry = desk.deps.audit.open(target.replica.name, target.replica.generation, self._most)
        desk.begin_run(target.replica.name, admission.key_id)
        desk.deps.metrics.inc("pareta_requests_in_flight", admission.endpoint)
        desk.deps.spool.admit(admission)

    def lost(self, target: Target, ask: Ask) -> None:
        self._desk.poison.lost(target.endpoint, target.replica, ask)

    def moved(self, target: Target) -> None:
        replica = target.replica
        self._desk.move_run(self.target.replica.name, replica.name)
        self._entry.account.lose(self._entry, self.admission.request_id)
        self.target = target
        self._entry = self._desk.deps.audit.open(replica.name, replica.generation, self._most)

    def settle(
        self, record: UsageRecord, status: int, refused: bool, document: bytes | None
    ) -> asyncio.Future[None]:
        desk, bill = self._desk, self._bill
        self._entry.account.close(self._entry, record, self._copies, refused)
        desk.end_run(self.target.replica.name, self.admission.key_id, record.t_end_s)
        desk.deps.credit.release(bill.held, bill.used_micro_usd(record))
        if bill.permit is not None:
            desk.limiter.leave(bill.permit, record.tokens.input + record.tokens.output)
        durable = desk.deps.spool.finish(record)
        if status == 200:
            durable.add_done_callback(lambda saved: self._saved(saved, record, document))
        else:
            durable.add_done_callback(error_of)
            self._count(record, status)
            if self._scope is not None:
                desk.replays.failed(self._scope)
        return durable

    def _saved(self, saved: asyncio.Future[None], record: UsageRecord, document: bytes | None) -> None:
        bad = error_of(saved) is not None
        self._count(record, Problem("metering_unavailable").status if bad else 200)
        if self._scope is None:
            return
        if bad:
            self._desk.replays.failed(self._scope)
        else:
            self._desk.replays.answered(self._scope, document)

    def _count(self, record: UsageRecord, status: int) -> None:
        count(self._desk.deps.metrics, record, status)
        self._desk.partials.count(record)


def error_of(saved: asyncio.Future[None]) -> BaseException | None:
    """The error of a future, which asyncio would otherwise call unretrieved."""
    return asyncio.CancelledError() if saved.cancelled() else saved.exception()
