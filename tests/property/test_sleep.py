"""Idler, waker and waiting line under any order of calls: nobody's endpoint is asleep under its waiters.

The three and the admission are the agent's own; the engines below them are values, on a clock that a test owns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, cast

from fakes import virtual_time
from fakes.virtual_time import LoopClock
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pareta_agent.access.credit import CreditBook, GrantedLease
from pareta_agent.access.keys import KeyCache
from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import EndpointView, FleetView, ReplicaView
from pareta_agent.contract.grant import KeyGrant, TokenPrice
from pareta_agent.contract.usage_record import Outcome, UsageRecord
from pareta_agent.engine.fleet_context import Changed
from pareta_agent.gateway.admission.controller import AdmissionController
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.gateway.api.routes import INFERENCE
from pareta_agent.gateway.gateway import Gateway
from pareta_agent.gateway.ports import AdmittedRequest, GatewayDeps
from pareta_agent.gateway.settings import GatewaySettings
from pareta_agent.node.sleep.demand import Demand
from pareta_agent.node.sleep.scale_down import LOOK_S, IdleScaler
from pareta_agent.node.sleep.wake import Activator
from pareta_agent.telemetry.metrics import Metrics

ROUTE = INFERENCE[b"POST", b"/v1/completions"]
HOLD_S = 60.0


@dataclass(frozen=True)
class Call:
    """`gap_s` after the one before: to which of the endpoints, how long its credit and its work take."""

    gap_s: float
    endpoint: int
    lease_s: float
    work_s: float


@dataclass(frozen=True)
class Case:
    """One engine of `endpoints` endpoints: how long it idles, and what its wakes, ends and adapters take."""

    limit_s: float
    endpoints: int
    wakes_s: list[float]
    ends_s: list[float]
    adapter_s: float
    taken_until_s: float
    calls: list[Call]


def seconds(most: float) -> st.SearchStrategy[float]:
    """Around the moments at which the idler and the waiting line look, and any other."""
    return st.one_of(st.sampled_from([0.0, 0.001, 0.015, 0.02, 0.985, 1.0]), st.floats(0, most))


CALLS = st.builds(Call, seconds(5), st.integers(0, 2), st.sampled_from([0.0, 0.0, 0.01, 1.5]), seconds(3))
CASES = st.builds(
    Case,
    limit_s=st.one_of(st.sampled_from([0.001, 0.01, 0.5, 1.0]), st.floats(0.001, 3)),
    endpoints=st.integers(1, 3),
    wakes_s=st.lists(seconds(4), min_size=1, max_size=4),
    ends_s=st.lists(seconds(4), min_size=1, max_size=4),
    adapter_s=seconds(1),
    taken_until_s=st.sampled_from([0.0, 0.0, 5.0]),
    calls=st.lists(CALLS, min_size=1, max_size=12),
)


class Engine:
    """A fleet of one engine, which may be shared, and the place that it runs at."""

    def __init__(self, case: Case) -> None:
        self.case, self.clock = case, LoopClock()
        self.names = [f"ep_{index}" for index in range(case.endpoints)]
        self.name = "base-1" if case.endpoints > 1 else "ep_0"
        self.demand: Demand
        self.status = "live"
        self.since_s = dict.fromkeys(self.names, self.clock.mono_s())
        self.begun_s = self.clock.mono_s()
        self.slept = 0
        self.changed_ = Changed()
        self._starting: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._ended.set()

    def view(self) -> FleetView:
        return FleetView({name: self._view(name) for name in self.names})

    def _view(self, name: str) -> EndpointView:
        there = self.status == "live" and name in self.since_s
        status: Any = "deploying" if self.status == "live" and not there else self.status
        replicas = (ReplicaView(f"{self.name}/0", 1, Path("/s")),) if there else ()
        return EndpointView(
            name, "org", "task", "alias-1", status, replicas, 1000,
            engine=self.name, live_since_s=self.since_s.get(name, 0.0),
        )  # fmt: skip

    def waiting(self, endpoint: str) -> int:
        return self.demand.waiting(endpoint)

    def sleep(self, endpoint: str, *, keep: bool) -> Awaitable[None]:
        """What must never be asked for is looked for here, at the moment at which it would happen."""
        assert not any(map(self.demand.waiting, self.names))
        assert not self.demand.load(f"{self.name}/0")
        assert self.clock.mono_s() - max(self.since_s.values(), default=0.0) >= self.case.limit_s
        if self.status == "live" and endpoint == self.names[-1]:
            self.status, self.since_s = "cold", {}
            self.slept += 1
            self._ended.clear()
            asyncio.get_running_loop().call_later(cyclic(self.case.ends_s, self.slept), self._ended.set)
            self.changed_()
        return self._settled()

    async def _settled(self) -> None:
        await self._ended.wait()

    def wake(self, endpoint: str) -> None:
        if self.status == "cold":
            self.status = "deploying"
            self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        await self._ended.wait()
        await asyncio.sleep(cyclic(self.case.wakes_s, self.slept))
        self.status = "live"
        for name in self.names:
            self.since_s[name] = self.clock.mono_s()
            self.changed_()
            await asyncio.sleep(self.case.adapter_s)

    @property
    def revision(self) -> int:
        return self.changed_.revision

    async def changed(self, since: int) -> int:
        return await self.changed_.since(since)

    def asleep_bytes(self) -> dict[str, int]:
        return {}

    # the place

    def free(self, engine: str) -> bool:
        return self.clock.mono_s() - self.begun_s >= self.case.taken_until_s

    def running(self, but: str) -> dict[str, None]:
        return {} if self.free(but) else {"ep_other": None}

    async def deploy(self, endpoint: str) -> None:
        if self.free(endpoint):
            self.wake(endpoint)


def cyclic(of: list[float], index: int) -> float:
    return of[index % len(of)]


class Spool:
    def can_admit(self) -> bool:
        return True

    def admit(self, _admission: object) -> None:
        pass

    def finish(self, _record: UsageRecord) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


@dataclass(eq=False)
class Caller:
    """Applies, works, and keeps what became of it."""

    id: str
    call: Call
    endpoint: str = ""
    refused: str | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def admitted(self, ticket: AdmittedRequest) -> None:
        asyncio.get_running_loop().call_later(self.call.work_s, self._finish, ticket)

    def _finish(self, ticket: AdmittedRequest) -> None:
        ticket.settle(UsageRecord(ticket.admission, Outcome.COMPLETED, "none"), 200, False, None)
        self.done.set()

    def refuse(self, problem: Problem) -> None:
        self.refused = problem.code
        self.done.set()

    def replay(self, request_id: str, document: bytes) -> None:
        raise NotImplementedError

    def crashed(self, error: Exception) -> None:
        raise error

    def comfort(self) -> None:
        pass

    def add_headers(self, headers: dict[str, str]) -> None:
        pass


async def lived(case: Case, make: type[Engine] = Engine) -> tuple[Engine, list[Caller]]:
    """All calls of the case, answered or refused, on a node whose idler and waker run."""
    engine, clock, leases = make(case), LoopClock(), cycle(case.calls)

    async def lease(_org: str, micro_usd: int) -> GrantedLease:
        await asyncio.sleep(next(leases).lease_s)
        return GrantedLease(micro_usd, 3.0)

    async def introspect(_digest: str) -> KeyGrant | None:
        return None

    waker = Activator(cast("Any", engine), cast("Any", engine), engine.deploy, HOLD_S, clock)
    deps = GatewayDeps(
        keys=KeyCache(introspect, clock),
        credit=CreditBook(lease, clock),
        spool=Spool(),
        fleet_view=engine.view,
        price_of=lambda _endpoint: TokenPrice(1, 1, 1),
        metrics=Metrics(),
        clock=clock,
        emit=lambda _event: None,
        wake=waker.wake,
    )
    front = Gateway(GatewaySettings(hold_s=HOLD_S), deps)
    engine.demand = demand = Demand(front, clock)
    idler = IdleScaler(
        cast("Any", engine), dict, demand.used_s, lambda _e: case.limit_s, 0.0, clock, lambda _event: None
    )
    idling = asyncio.create_task(idler.run())
    callers = []
    for number, call in enumerate(case.calls):
        await asyncio.sleep(call.gap_s)
        callers.append(caller := Caller(f"req_{number}", call))
        ask = InferenceRequest(
            engine.names[call.endpoint % case.endpoints], {"prompt": "hi"}, 10, max_tokens=5
        )
        AdmissionController(
            front._admission, caller, ROUTE, KeyGrant("org", "key", "active"), ask, None
        ).proceed()
    async with asyncio.timeout(3 * HOLD_S):
        for caller in callers:
            await caller.done.wait()
    # nobody calls any more: whatever is awake by now sleeps in the end
    await asyncio.sleep(2 * LOOK_S + case.limit_s + max(case.ends_s) + 4 + 3 * case.adapter_s)
    assert not idling.done(), idling.exception()
    assert engine.status == "cold"
    idling.cancel()
    await waker.close()
    return engine, callers


@settings(deadline=None, max_examples=150)  # a busy machine is not a failure
@given(CASES)
@example(Case(0.001, 1, [0.485], [0.0], 0.0, 0.0, [Call(1.51, 0, 0.0, 0.1)]))  # live between two looks
def test_every_call_is_answered_and_nobody_sleeps_under_a_waiter(case: Case) -> None:
    """Whatever takes how long, each call has its answer; an idle engine sleeps, once nobody waits, works or woke."""

    async def hold() -> None:
        engine, callers = await lived(case)
        assert [caller.refused for caller in callers] == [None] * len(case.calls)
        assert engine.slept >= 1

    virtual_time.run(hold())


@settings(deadline=None, max_examples=20)  # a busy machine is not a failure
@given(st.integers(1, 50))
def test_a_wake_that_came_to_nothing_is_asked_for_again(lost: int) -> None:
    """As long as somebody waits: a second sleep, or a wake that went astray, costs delay only."""
    case = Case(0.5, 1, [0.1], [0.1], 0.0, 0.0, [Call(4.0, 0, 0.0, 0.1)])

    asked: list[str] = []

    class Forgetful(Engine):
        def wake(self, endpoint: str) -> None:
            asked.append(endpoint)
            if len(asked) > lost:
                super().wake(endpoint)

    async def hold() -> None:
        _, callers = await lived(case, Forgetful)
        assert [caller.refused for caller in callers] == [None]

    virtual_time.run(hold())
