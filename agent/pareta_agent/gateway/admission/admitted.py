"""Admitted request: holds the load, credit, permit and spool entry of a request, and settles all once.

The exchange with the engine may run in another process.
"""

from __future__ import annotations

import asyncio

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.gateway.accounting.billing import Charge, count
from pareta_agent.gateway.accounting.usage import bounds_of, most_of, prompt_bytes
from pareta_agent.gateway.admission.idempotency import Scope
from pareta_agent.gateway.admission.state import AdmissionState
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.gateway.ports import Target


class LocalAdmission:
    """An admitted request of this process's admission state."""

    def __init__(
        self,
        state: AdmissionState,
        admission: Admission,
        request: InferenceRequest,
        target: Target,
        charge: Charge,
        scope: Scope | None,
    ) -> None:
        self.admission, self.target = admission, target
        self._state, self._charge, self._scope, self._copies = state, charge, scope, request.n
        endpoint = target.endpoint
        self._most = most_of(bounds_of(request, endpoint), prompt_bytes(request, endpoint))
        self._entry = state.deps.audit.open(target.replica.name, target.replica.generation, self._most)
        state.begin_run(target.replica.name, admission.key_id)
        state.deps.metrics.inc("pareta_requests_in_flight", admission.endpoint)
        state.deps.spool.admit(admission)

    def lost(self, target: Target, request: InferenceRequest) -> None:
        self._state.quarantine.lost(target.endpoint, target.replica, request)

    def moved(self, target: Target) -> None:
        replica = target.replica
        self._state.move_run(self.target.replica.name, replica.name)
        self._entry.account.lose(self._entry, self.admission.request_id)
        self.target = target
        self._entry = self._state.deps.audit.open(replica.name, replica.generation, self._most)

    def settle(
        self, record: UsageRecord, status: int, refused: bool, document: bytes | None
    ) -> asyncio.Future[None]:
        state, charge = self._state, self._charge
        self._entry.account.close(self._entry, record, self._copies, refused)
        state.end_run(self.target.replica.name, self.admission.key_id, record.t_end_s)
        state.deps.credit.release(charge.held, charge.used_micro_usd(record))
        if charge.permit is not None:
            state.limiter.leave(charge.permit, record.tokens.input + record.tokens.output)
        durable = state.deps.spool.finish(record)
        if status == 200:
            durable.add_done_callback(lambda saved: self._saved(saved, record, document))
        else:
            durable.add_done_callback(error_of)
            self._count(record, status)
            if self._scope is not None:
                state.idempotency.failed(self._scope)
        return durable

    def _saved(self, saved: asyncio.Future[None], record: UsageRecord, document: bytes | None) -> None:
        bad = error_of(saved) is not None
        self._count(record, Problem("metering_unavailable").status if bad else 200)
        if self._scope is None:
            return
        if bad:
            self._state.idempotency.failed(self._scope)
        else:
            self._state.idempotency.answered(self._scope, document)

    def _count(self, record: UsageRecord, status: int) -> None:
        count(self._state.deps.metrics, record, status)
        self._state.partial_answers.count(record)


def error_of(saved: asyncio.Future[None]) -> BaseException | None:
    """The error of a future, retrieved so that asyncio does not report the error."""
    return asyncio.CancelledError() if saved.cancelled() else saved.exception()
