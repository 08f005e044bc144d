"""When a start is over, and whether the node should get traffic."""

import pytest

from pareta_agent.contract.fleet_view import EndpointView, FleetView
from pareta_agent.control.reconcile import Wanted
from pareta_agent.gateway.asgi.readyz import Readiness
from pareta_agent.node.readiness import StartState, judge, not_ready, state_of


def wanted(*names, state="running"):
    return [Wanted(name, "org", "task", "alias-1", state) for name in names]


def view(**states):
    return FleetView({n: EndpointView(n, "org", "task", "alias-1", s) for n, s in states.items()})


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({}, StartState.UNDER_WAY),
        ({"a": "deploying"}, StartState.UNDER_WAY),
        ({"a": "live"}, StartState.UNDER_WAY),
        ({"a": "live", "b": "deploying"}, StartState.UNDER_WAY),
        ({"a": "live", "b": "live"}, StartState.LIVE),
        ({"a": "live", "b": "failed"}, StartState.LIVE),
        ({"a": "failed", "b": "failed"}, StartState.FAILED),
        ({"a": "failed", "b": "deploying"}, StartState.UNDER_WAY),
    ],
)
def test_a_start_is_over_when_nothing_is_on_its_way(states, expected):
    """An endpoint that the fleet has not heard of yet is on its way."""
    assert judge(wanted("a", "b"), view(**states)) == expected


def test_a_node_of_which_nothing_is_wanted_never_ends_its_start():
    """It waits for its plane to want something."""
    assert judge([], view()) == StartState.IDLE
    assert judge(wanted("a", state="stopped"), view(a="stopped")) == StartState.IDLE


@pytest.mark.parametrize(
    ("readiness", "stopping", "was_ready", "expected"),
    [
        (Readiness("ok"), False, False, "ready"),
        (Readiness("ok"), False, True, "ready"),
        (Readiness("degraded", ["a front worker"]), False, True, "degraded"),
        (Readiness("not ready", ["starting"]), False, False, "starting"),
        (Readiness("not ready", ["no lease"]), False, True, "not ready"),
        (Readiness("ok"), True, True, "draining"),
        (Readiness("not ready", ["draining"]), True, True, "draining"),
    ],
)
def test_the_word_of_status_agrees_with_readyz(readiness, stopping, was_ready, expected):
    """`ready` and `degraded` where it answers 200, another word where it answers 503."""
    assert state_of(readiness, stopping=stopping, was_ready=was_ready) == expected


def test_a_node_is_ready_with_a_lease_a_meter_and_a_live_endpoint():
    """Each lack is named."""
    assert not_ready(wanted("a"), view(a="live"), lease=True, metering=True) == []
    assert not_ready([], view(), lease=True, metering=True) == []
    assert not_ready(wanted("a"), view(a="deploying"), lease=False, metering=False) == [
        "no lease with the control plane",
        "usage cannot be recorded",
        "no endpoint is live yet",
    ]
