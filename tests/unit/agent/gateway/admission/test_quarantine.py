"""A request that was in flight at two engines' ends is refused, for a while and by itself."""

from pathlib import Path

import pytest

from pareta_agent.contract.fleet_view import EndpointView, ReplicaView
from pareta_agent.gateway.admission.quarantine import (
    REFUSED_S,
    WITHIN_S,
    Quarantine,
    fingerprint,
    refused_until,
)
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.telemetry.metrics import Metrics

LIVE = EndpointView("ep", "org", "t", "a", "live")
GUILTY, OTHER = (InferenceRequest("ep", {"prompt": word}, 10) for word in ("guilty", "other"))


def replica(generation: int) -> ReplicaView:
    return ReplicaView("ep/0", generation, Path("/s"))


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((), None),
        ((5.0,), None),
        ((5.0, 6.0), 6.0 + REFUSED_S),
        ((0.0, WITHIN_S + 1), None),
        ((0.0, WITHIN_S + 1, WITHIN_S + 2), WITHIN_S + 2 + REFUSED_S),
    ],
)
def test_the_rule(ends, expected):
    """Two ends near each other, counted from the last."""
    assert refused_until(ends) == expected


def test_two_ends_refuse_the_request_and_no_other(clock):
    """The first is forgiven; after the second it is a 4xx that says not to retry, until its time is over."""
    poison = Quarantine(Metrics(), clock)
    for generation in (1, 2):
        assert poison.refusal(LIVE, GUILTY) is None
        poison.lost(LIVE, replica(generation), GUILTY)
        poison.ended("ep/0", generation)
    problem = poison.refusal(LIVE, GUILTY)
    assert problem is not None
    assert (problem.code, problem.status, problem.retry) == ("request_quarantined", 422, False)
    assert poison.refusal(LIVE, OTHER) is None
    assert poison.refusal(EndpointView("ep", "another org", "t", "a", "live"), GUILTY) is None
    clock.now_s += REFUSED_S + 1
    assert poison.refusal(LIVE, GUILTY) is None


def test_a_lost_connection_is_no_end(clock):
    """An engine that was meant to end, or lives on, is nobody's fault; nor is an end long after."""
    poison = Quarantine(Metrics(), clock)
    for generation in (1, 2, 3):
        poison.lost(LIVE, replica(generation), GUILTY)
    poison.ended("ep/0", 9)
    assert poison.refusal(LIVE, GUILTY) is None
    clock.now_s += 120
    for generation in (1, 2, 3):
        poison.ended("ep/0", generation)
    assert poison.refusal(LIVE, GUILTY) is None


def test_an_upload_is_told_by_its_bytes():
    """A form's file is no JSON; the same file is the same question."""
    one, same, other = (
        InferenceRequest("ep", {"file": [word, b"x"], "model": "ep"}, 10) for word in (b"a", b"a", b"b")
    )
    assert fingerprint("org", "ep", one) == fingerprint("org", "ep", same) != fingerprint("org", "ep", other)
