"""Who is put to sleep, with its weights in host memory or not, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine_plans import PLAN

from pareta_agent.contract.fleet_view import EndpointStatus, EndpointView, ReplicaView
from pareta_agent.hardware.host import Host
from pareta_agent.node.sleep.scale_down import due, overslept, with_room
from pareta_agent.planning.plan import Plan

USED_S = {"ep_a": 0.0, "ep_b": 95.0, "base-1": 0.0, "base-2": 0.0}


def ten_s(_endpoint: EndpointView) -> float:
    return 10.0


def nobody(_endpoint: str) -> int:
    return 0


def view(
    name: str, engine: str | None = None, status: EndpointStatus = "live", since_s: float = 0.0
) -> EndpointView:
    replicas = (ReplicaView(f"{engine or name}/0", 1, Path("/s")),) if status == "live" else ()
    return EndpointView(name, "org", "task", "alias-1", status, replicas, engine=engine, live_since_s=since_s)


def found(*views: EndpointView, waiting: Callable[[str], int] = nobody) -> list[str]:
    return due(views, USED_S.__getitem__, waiting, 100.0, ten_s)


def test_what_was_not_used_for_long_is_due() -> None:
    """Nor is what became live a moment ago, or is waited for."""
    assert found(view("ep_a"), view("ep_b")) == ["ep_a"]
    assert found(view("ep_a", since_s=99.0), view("ep_b")) == []
    assert found(view("ep_a"), view("ep_b"), waiting={"ep_a": 1, "ep_b": 0}.__getitem__) == []


def test_endpoints_of_one_engine_are_due_together() -> None:
    """One that has just come, is waited for, or is on its way, keeps the others awake; one that failed does not."""
    others = view("ep_3", "base-2"), view("ep_4", "base-2")
    assert found(view("ep_1", "base-1"), view("ep_2", "base-1", since_s=99.0), *others) == ["ep_3", "ep_4"]
    pair = view("ep_1", "base-1"), view("ep_2", "base-1")
    assert found(*pair, *others, waiting=lambda name: int(name == "ep_2")) == ["ep_3", "ep_4"]
    assert found(view("ep_1", "base-1"), view("ep_2", "base-1", "deploying")) == []
    assert found(view("ep_1", "base-1"), view("ep_2", "base-1", "failed")) == ["ep_1"]


def test_each_endpoint_has_its_own_limit() -> None:
    """What never sleeps is never due, and keeps awake whoever shares its engine."""
    limits_s = {"ep_a": 10.0, "ep_b": 4.0, "ep_1": 10.0, "ep_2": None}
    views = [view("ep_a"), view("ep_b"), view("ep_1", "base-1"), view("ep_2", "base-1")]

    def limit_s(endpoint: EndpointView) -> float | None:
        return limits_s[endpoint.id]

    assert due(views, USED_S.__getitem__, nobody, 100.0, limit_s) == ["ep_a", "ep_b"]
    assert due(views[3:], USED_S.__getitem__, nobody, 1e9, limit_s) == []


def weighing(size_bytes: int) -> Plan:
    """Half of it on each of two GPUs."""
    footprint = replace(PLAN.footprint, weights_bytes=size_bytes // 2)
    return replace(PLAN, gpus=(("GPU-0", "GPU-1"),), footprint=footprint)


def test_weights_stay_where_a_tenth_of_the_host_is_left() -> None:
    """They cannot be swapped out. Those of one look come one after the other, each engine once."""
    plans = {name: weighing(size) for name, size in (("ep_a", 100), ("ep_b", 202), ("base-1", 200))}
    assert with_room(["ep_a", "ep_b", "base-1", "base-1", "ep_gone"], plans, Host(8, 1000, 400)) == {
        "ep_a",
        "base-1",
    }
    assert with_room(["ep_a"], plans, Host(8, 1000, 199)) == frozenset()


def test_sleepers_end_after_their_time_or_when_the_host_runs_short() -> None:
    """All whose time is over; else one at a time, who slept longest first."""
    since_s = {"ep_new": 90.0, "ep_old": 10.0, "ep_older": 5.0}
    assert overslept(since_s, 100.0, 80.0, Host(8, 1000, 400)) == ["ep_old", "ep_older"]
    assert overslept(since_s, 100.0, 3600.0, Host(8, 1000, 400)) == []
    assert overslept(since_s, 100.0, 3600.0, Host(8, 1000, 49)) == ["ep_older"]
    assert overslept({}, 100.0, 3600.0, Host(8, 1000, 49)) == []
