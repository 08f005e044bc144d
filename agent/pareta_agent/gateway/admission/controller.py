"""Admission control: selects a replica, applies the key's rate limits, reserves credit, or queues the request.

A request waits only while the endpoint starts. Everything acquired is released if the request is not admitted.
"""

from __future__ import annotations

import asyncio

from pareta_agent.access.credit import Reservation
from pareta_agent.access.limits import Permit
from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.grant import KeyGrant
from pareta_agent.errors import AgentError
from pareta_agent.gateway.accounting.billing import Charge
from pareta_agent.gateway.admission.admitted import LocalAdmission
from pareta_agent.gateway.admission.balancer import select_replica
from pareta_agent.gateway.admission.idempotency import CachedAnswer, Scope
from pareta_agent.gateway.admission.rate_limit import enter as enter_limits
from pareta_agent.gateway.admission.rules import find, record_of, worst_case
from pareta_agent.gateway.admission.state import AdmissionState
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.gateway.api.routes import Route
from pareta_agent.gateway.ports import Applicant, IdempotencyKey, Pending, Target


class AdmissionController:
    """Admits a single request. The applicant receives an immediate result before `proceed` returns."""

    def __init__(
        self,
        state: AdmissionState,
        applicant: Applicant,
        route: Route,
        grant: KeyGrant,
        request: InferenceRequest,
        idempotency_key: IdempotencyKey | None,
    ) -> None:
        self._state, self._applicant, self._route = state, applicant, route
        self._grant, self._request, self._idempotency_key = grant, request, idempotency_key
        self._scope: Scope | None = None
        self._permit: Permit | None = None
        self._reservation: Reservation | None = None
        self._leasing: asyncio.Task[None] | None = None
        self._over = False

    def proceed(self) -> None:
        """Runs the admission: at first, and again when the wake queue reaches the request."""
        try:
            if (
                self._idempotency_key is None
                or self._scope is not None
                or self._may_run(self._idempotency_key)
            ):
                self._admit()
        except Exception as error:  # the queue goes on with the other calls
            self.withdraw()
            self._applicant.crashed(error)

    def send_keepalive(self) -> None:
        self._applicant.send_keepalive()

    def refuse(self, problem: Problem) -> None:
        self.withdraw()
        self._applicant.refuse(problem)

    def withdraw(self) -> None:
        """Releases everything acquired; the applicant receives nothing more."""
        self._over = True
        self._state.wake_queue.leave(self)
        if self._permit is not None:
            self._state.limiter.leave(self._permit, 0)
        if self._reservation is not None:
            self._state.deps.credit.release(self._reservation, 0)
        if self._scope is not None:
            self._state.idempotency.failed(self._scope)
        self._permit = self._reservation = self._scope = None

    def _may_run(self, idempotency_key: IdempotencyKey) -> bool:
        scope = (
            self._grant.org,
            self._grant.key_id,
            self._request.model,
            self._route.path,
            idempotency_key.name,
        )
        found = self._state.idempotency.begin(scope, idempotency_key.digest, self._applicant.id)
        if isinstance(found, Problem):
            self.refuse(found)
        elif found.document is not None:
            self._replay(found, found.document)
        else:
            self._scope = scope
            return True
        return False

    def _replay(self, entry: CachedAnswer, document: bytes) -> None:
        self.withdraw()
        self._applicant.endpoint = self._request.model
        self._applicant.replay(entry.request_id, document)

    def _admit(self) -> None:
        state, grant, request = self._state, self._grant, self._request
        target = self._choose()
        if isinstance(target, Problem):
            self._wait_or_refuse(target)
            return
        endpoint = target.endpoint
        if self._permit is None and not grant.limits.none:
            permit = enter_limits(state.limiter, grant, request, endpoint, self._applicant.add_headers)
            if isinstance(permit, Problem):
                self.refuse(permit)
                return
            self._permit = permit
        price = state.deps.price_of(endpoint.id)
        worst_micro_usd = worst_case(request, endpoint, price)
        if self._reservation is None:
            self._reservation = state.deps.credit.reserve(grant.org, worst_micro_usd)
        if self._reservation is None:
            state.wake_queue.expect(self, endpoint.id)
            self._leasing = asyncio.get_running_loop().create_task(self._lease(worst_micro_usd))
            return
        charge = Charge(self._reservation, price, self._permit, grant.partial)
        now_s = state.deps.clock.wall_s()
        record = record_of(self._applicant.id, self._route.path, grant, request, target, now_s)
        admitted = LocalAdmission(state, record, request, target, charge, self._scope)
        self._permit = self._reservation = self._scope = None  # the admitted request's now
        self.withdraw()
        self._applicant.admitted(admitted)

    def _choose(self) -> Target | Problem:
        endpoint = find(self._request.model, self._grant, self._state.deps.fleet_view())
        if isinstance(endpoint, Problem):
            return endpoint
        self._applicant.endpoint = endpoint.id
        return select_replica(self._state, endpoint, self._grant, self._request, self._route)

    def _wait_or_refuse(self, problem: Problem) -> None:
        """Queues a request for an endpoint that starts or wakes; refuses any other."""
        if self._reservation is not None:
            self._state.deps.credit.release(self._reservation, 0)
            self._reservation = None
        refusal: Problem | None = problem
        if problem.code == "endpoint_cold":
            refusal = self._state.wake_queue.enter(self, self._request)
        if refusal is not None:
            self.refuse(refusal)

    async def _lease(self, worst_micro_usd: int) -> None:
        """Requests credit from the plane, then continues the admission."""
        found = await _top_up(self._state, self._grant, worst_micro_usd)
        if isinstance(found, Problem):
            if not self._over:
                self.refuse(found)
        elif self._over:
            self._state.deps.credit.release(found, 0)
        else:
            self._reservation = found
            self.proceed()


async def _top_up(state: AdmissionState, grant: KeyGrant, worst_micro_usd: int) -> Reservation | Problem:
    """Credit for a call beyond the lease at hand; a refusal if the plane grants none."""
    try:
        found = await state.deps.credit.top_up(grant.org, worst_micro_usd)
    except AgentError:
        return Problem("auth_unavailable")
    return found or Problem("insufficient_credit", retry=False)


def apply(
    state: AdmissionState,
    applicant: Applicant,
    route: Route,
    grant: KeyGrant,
    request: InferenceRequest,
    idempotency_key: IdempotencyKey | None,
) -> Pending:
    """Starts the admission of a request in this process."""
    application = AdmissionController(state, applicant, route, grant, request, idempotency_key)
    application.proceed()
    return application
