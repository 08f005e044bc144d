"""One request's way to its ticket: a replica, the key's limits, credit, and a place in line where only waiting helps.

What it took on the way it gives back unless it ends in a ticket.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Protocol

from pareta_agent.access.credit import Reservation
from pareta_agent.access.grant import KeyGrant
from pareta_agent.access.limits import Permit
from pareta_agent.front import admission, choice, door, limits
from pareta_agent.front.body import Ask
from pareta_agent.front.desk import Desk
from pareta_agent.front.envelope import Problem
from pareta_agent.front.replays import Entry, Scope
from pareta_agent.front.routes import Route
from pareta_agent.front.tally import Bill
from pareta_agent.front.ticket import Booked, Ticket


class Applicant(Protocol):
    """Who wants to be let in; hears one of `admitted`, `replay`, `refuse`, `crashed`, unless it withdraws before."""

    id: str
    endpoint: str
    """The endpoint that it turned out to ask, for whoever counts refusals."""

    def admitted(self, ticket: Ticket) -> None: ...

    def replay(self, request_id: str, document: bytes) -> None: ...

    def refuse(self, problem: Problem) -> None: ...

    def crashed(self, error: Exception) -> None: ...

    def comfort(self) -> None: ...

    def add_headers(self, headers: dict[str, str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Once:
    """The caller's idempotency key, and the digest of the body that it was sent with."""

    name: str
    digest: bytes


class Pending(Protocol):
    """An application that was sent; `withdraw` when its applicant is over."""

    def withdraw(self) -> None: ...


class Apply(Protocol):
    """How a request applies; what may be said at once is said to the applicant before this returns."""

    def __call__(
        self,
        desk: Desk,
        /,
        applicant: Applicant,
        route: Route,
        grant: KeyGrant,
        ask: Ask,
        once: Once | None,
    ) -> Pending: ...


class Application:
    """Whoever may be told at once is told before `proceed` returns."""

    def __init__(
        self, desk: Desk, applicant: Applicant, route: Route, grant: KeyGrant, ask: Ask, once: Once | None
    ) -> None:
        self._desk, self._applicant, self._route = desk, applicant, route
        self._grant, self._ask, self._once = grant, ask, once
        self._scope: Scope | None = None
        self._permit: Permit | None = None
        self._reservation: Reservation | None = None
        self._leasing: asyncio.Task[None] | None = None
        self._over = False

    def proceed(self) -> None:
        """At the beginning, and when its turn in line has come."""
        try:
            if self._once is None or self._scope is not None or self._may_run(self._once):
                self._admit()
        except Exception as error:  # the others in line must not suffer
            self.withdraw()
            self._applicant.crashed(error)

    def comfort(self) -> None:
        self._applicant.comfort()

    def refuse(self, problem: Problem) -> None:
        self.withdraw()
        self._applicant.refuse(problem)

    def withdraw(self) -> None:
        """Gives back what it holds; nothing more is said to its applicant."""
        self._over = True
        self._desk.hold.leave(self)
        if self._permit is not None:
            self._desk.limiter.leave(self._permit, 0)
        if self._reservation is not None:
            self._desk.deps.credit.release(self._reservation, 0)
        if self._scope is not None:
            self._desk.replays.failed(self._scope)
        self._permit = self._reservation = self._scope = None

    def _may_run(self, once: Once) -> bool:
        scope = (
            self._grant.org,
            self._grant.key_id,
            self._ask.model,
            self._route.path,
            once.name,
        )
        found = self._desk.replays.begin(scope, once.digest, self._applicant.id)
        if isinstance(found, Problem):
            self.refuse(found)
        elif found.document is not None:
            self._replay(found, found.document)
        else:
            self._scope = scope
            return True
        return False

    def _replay(self, entry: Entry, document: bytes) -> None:
        self.withdraw()
        self._applicant.endpoint = self._ask.model
        self._applicant.replay(entry.request_id, document)

    def _admit(self) -> None:
        desk, grant, ask = self._desk, self._grant, self._ask
        target = self._choose()
        if isinstance(target, Problem):
            self._wait_or_refuse(target)
            return
        endpoint = target.endpoint
        if self._permit is None and not grant.limits.none:
            permit = limits.enter(desk.limiter, grant, ask, endpoint, self._applicant.add_headers)
            if isinstance(permit, Problem):
                self.refuse(permit)
                return
            self._permit = permit
        price = desk.deps.price_of(endpoint.id)
        worst = admission.worst_case(ask, endpoint, price)
        if self._reservation is None:
            self._reservation = desk.deps.credit.reserve(grant.org, worst)
        if self._reservation is None:
            desk.hold.expect(self, endpoint.id)
            self._leasing = asyncio.get_running_loop().create_task(self._lease(worst))
            return
        bill = Bill(self._reservation, price, self._permit, grant.partial)
        now_s = desk.deps.clock.wall_s()
        admitted = admission.record_of(self._applicant.id, self._route.path, grant, ask, target, now_s)
        ticket = Booked(desk, admitted, ask, target, bill, self._scope)
        self._permit = self._reservation = self._scope = None  # the ticket's now
        self.withdraw()
        self._applicant.admitted(ticket)

    def _choose(self) -> admission.Target | Problem:
        endpoint = admission.find(self._ask.model, self._grant, self._desk.deps.fleet_view())
        if isinstance(endpoint, Problem):
            return endpoint
        self._applicant.endpoint = endpoint.id
        return choice.choose(self._desk, endpoint, self._grant, self._ask, self._route)

    def _wait_or_refuse(self, problem: Problem) -> None:
        """What only waiting mends is waited for, in line and not for ever; everything else is refused."""
        if self._reservation is not None:
            self._desk.deps.credit.release(self._reservation, 0)
            self._reservation = None
        refusal: Problem | None = problem
        if problem.code == "endpoint_cold":
            refusal = self._desk.hold.enter(self, self._ask)
        if refusal is not None:
            self.refuse(refusal)

    async def _lease(self, worst_micro_usd: int) -> None:
        """Asks the plane for credit when the lease at hand has no room."""
        found = await door.top_up(self._desk, self._grant, worst_micro_usd)
        if isinstance(found, Problem):
            if not self._over:
                self.refuse(found)
        elif self._over:
            self._desk.deps.credit.release(found, 0)
        else:
            self._reservation = found
            self.proceed()


def once_of(name: bytes | None, body: bytes | bytearray) -> Once | None:
    return None if name is None else Once(name.decode("ascii"), hashlib.sha256(body).digest())


def apply(
    desk: Desk, applicant: Applicant, route: Route, grant: KeyGrant, ask: Ask, once: Once | None
) -> Pending:
    """Applies to the books of this process."""
    application = Application(desk, applicant, route, grant, ask, once)
    application.proceed()
    return application
