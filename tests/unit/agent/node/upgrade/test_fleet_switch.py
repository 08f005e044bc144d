"""What the front serves from while the engines change hands."""

from dataclasses import replace
from pathlib import Path

from pareta_agent.contract.fleet_view import EndpointView, FleetView, ReplicaView
from pareta_agent.node.upgrade.fleet_switch import FleetSwitch, merged

OLD = ReplicaView("ep_a/0", 1, Path("/old"))
NEW = ReplicaView("ep_a/0", 2, Path("/new"))
LIVE = EndpointView("ep_a", "org", "t", "a", "live", (OLD,))
PROVED = replace(LIVE, status="deploying", replicas=())


def view(*endpoints: EndpointView, complete: bool = True) -> FleetView:
    return FleetView({each.id: each for each in endpoints}, complete)


def test_what_served_before_serves_until_it_is_proved_anew():
    """Nothing is known there yet, then it deploys, then it is live."""
    nothing = view(complete=False)
    assert merged(view(LIVE), nothing, None).endpoints["ep_a"] == LIVE
    assert merged(view(LIVE), view(PROVED), frozenset({"ep_a/0"})).endpoints["ep_a"] == LIVE
    fresh = replace(LIVE, replicas=(NEW,))
    assert merged(view(LIVE), view(fresh), frozenset({"ep_a/0"})).endpoints["ep_a"] == fresh


def test_an_engine_that_is_not_kept_is_not_served_from():
    """Another engine is wanted there: calls wait for it, and its old socket is not asked."""
    assert merged(view(LIVE), view(PROVED), frozenset()).endpoints["ep_a"] == PROVED


def test_an_endpoint_that_nobody_wants_is_gone():
    """Once all is known there, what is not among it does not exist."""
    assert merged(view(LIVE), view(), frozenset()).endpoints == {}
    assert merged(view(LIVE), view(complete=False), None).complete


def test_what_arrived_is_not_held_against_later_news():
    """An engine that ends after everything was live is not served from by memory."""
    now = [view(complete=False)]
    switch = FleetSwitch(lambda: view(LIVE))
    switch.switch(lambda: now[0], lambda: None)
    assert switch().endpoints["ep_a"] == LIVE
    now[0] = view(LIVE)
    assert switch() == now[0]
    now[0] = view(PROVED)
    assert switch().endpoints["ep_a"] == PROVED
