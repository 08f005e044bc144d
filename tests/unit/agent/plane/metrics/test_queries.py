"""Metric queries: sums of the recorded usage, alike on SQLite and PostgreSQL, and of one org only."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_event import (
    COLDSTART,
    NO_HASH,
    Item,
    SpoolEntry,
    canonical,
    chain,
    finished,
    item,
)
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.contract.wire import (
    DesiredEndpoint,
    Heartbeat,
    Observed,
    ObservedEndpoint,
    Register,
    WirePrice,
)
from pareta_agent.plane.metrics.queries import RequestTimes, Subject
from pareta_agent.plane.metrics.timeline import StatusChange
from pareta_agent.plane.metrics.window import Window
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.ledger import Taken

T0_S = 1_760_000_000
HOUR = Window(T0_S, T0_S + 3600)
PRICE = WirePrice(
    input_micro_usd_per_mtok=1_000_000,
    cached_input_micro_usd_per_mtok=500_000,
    output_micro_usd_per_mtok=2_000_000,
)


class Wall(SystemClock):
    """A clock that stands still until set."""

    now_s = float(T0_S)

    def wall_s(self) -> float:
        return self.now_s


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def plane(database: Database, wall: Wall) -> Plane:
    plane = Plane.on(database, wall)
    for org in ("org", "other"):
        plane.orgs.ensure(org, 1_000_000)
    plane.desired_state.replace(
        [
            DesiredEndpoint(id=f"ep_{org}", org=org, task="t", alias="a", price=PRICE)
            for org in ("org", "other")
        ]
    )
    plane.nodes.ensure("n", "token")
    return plane


def usage(request_id: str, at_s: float, org: str = "org", outcome: Outcome = Outcome.COMPLETED) -> Item:
    admission = Admission(
        request_id, org, "k", f"ep_{org}", task="t", alias="a", route="/r", streamed=True, t_admit_wall_s=at_s
    )
    tokens = Tokens(100, 40, 11)
    return finished(UsageRecord(admission, outcome, "engine_final", tokens, t_first_token_s=0.5, t_end_s=2.5))


def take(plane: Plane, *items: Item) -> None:
    source, events, previous = "//pareta/node/n/spool/s", [], NO_HASH
    for sequence, each in enumerate(items, 1):
        body = canonical(each, source, 1, sequence)
        entry = SpoolEntry(1, sequence, previous, chain(previous, body), body)
        previous = entry.hash
        events.append(orjson.loads(entry.wire()))
    assert isinstance(plane.ledger.take("n", events), Taken)


def observe(plane: Plane, epoch: int, status: Any) -> None:
    seen = [ObservedEndpoint(id="ep_org", status=status)]
    assert plane.nodes.observed("n", Observed(epoch=epoch, desired_revision=1, endpoints=seen))


def test_requests_are_added_up_by_outcome_and_by_time(plane: Plane) -> None:
    """Requests count in the window part of their end; other orgs and earlier requests do not count."""
    take(
        plane,
        usage("before", T0_S - 60),
        usage("a", T0_S),
        usage("b", T0_S + 57),
        usage("c", T0_S + 58),
        usage("failed", T0_S + 119, outcome=Outcome.FAILED_ENGINE),
        usage("foreign", T0_S + 1, org="other"),
    )
    subject = Subject("org", "ep_org", HOUR)
    outcomes = plane.metrics.by_outcome(subject)
    assert {name: sums.requests for name, sums in outcomes.items()} == {"completed": 3, "failed_engine": 1}
    assert (outcomes["completed"].debit_micro_usd, outcomes["failed_engine"].debit_micro_usd) == (306, 0)
    parts = plane.metrics.by_part(subject)
    assert {at_s - T0_S: (sums.requests, sums.completed) for at_s, sums in parts.items()} == {
        0: (2, 2),
        60: (1, 1),
        120: (1, 0),
    }
    assert plane.metrics.by_source(subject) == {"engine_final": 4}
    assert plane.metrics.samples(subject) == [RequestTimes(0.5, 2.5, 11)] * 3
    assert [row["request_id"] for row in plane.metrics.newest(subject, 2)] == ["failed", "c"]
    assert plane.metrics.by_outcome(Subject("other", "ep_org", HOUR)) == {}


def test_cold_starts_of_one_endpoint_are_found(plane: Plane) -> None:
    """Reported cold starts are returned; an invalid report is skipped."""
    report = {"cause": "deploy", "outcome": "ready", "total_s": 12.5, "phases": {"load": 3.0}}
    take(
        plane,
        item(COLDSTART, {"endpoint": "ep_org", **report}, T0_S),
        item(COLDSTART, {"endpoint": "ep_other", **report}, T0_S),
        item(COLDSTART, {"endpoint": "ep_org", "total_s": "long"}, T0_S),
    )
    [start] = plane.metrics.starts(Subject("org", "ep_org", HOUR))
    assert (start.at_s, start.start_report.model_dump()) == (T0_S, report)


def test_a_loss_of_the_node_is_a_loss_of_what_it_served(plane: Plane, wall: Wall) -> None:
    """Endpoints are lost since the node's last heartbeat: during the absence, after a return, and after a new epoch."""
    epoch = plane.nodes.register(Register(node="n", boot_id="b", agent_version="0")).epoch
    observe(plane, epoch, "live")
    wall.now_s = T0_S + 100.0
    assert plane.metrics.changes("ep_org", plane.nodes.lost_since_s())[-1] == StatusChange("lost", T0_S)
    beat = Heartbeat(node="n", epoch=epoch, hb_seq=1, boot_id="b", state="ready")
    assert plane.nodes.heartbeat(beat)
    assert plane.nodes.lost_since_s() is None
    back = [StatusChange("live", T0_S), StatusChange("lost", T0_S), StatusChange("live", T0_S + 100)]
    assert plane.metrics.changes("ep_org", plane.nodes.lost_since_s()) == back
    wall.now_s = T0_S + 300.0
    plane.nodes.register(Register(node="n", boot_id="b", agent_version="0"))
    assert plane.metrics.changes("ep_org")[-1] == StatusChange("lost", T0_S + 100)
