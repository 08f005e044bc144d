"""Starts that fail and are mended: the fleet shows no failure in between, whatever the failure would mean alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from engine_plans import PLAN
from engine_room import Room, rooms_in, spec

from pareta_agent.clock import SystemClock
from pareta_agent.node.deployment.start_recovery import StartRecovery
from pareta_agent.planning.plan import Candidate, Plan, PlanReport
from pareta_agent.planning.support.numerics import Numerics

Make = Callable[..., Room]
NO_CACHE = ("--least-stages", "2")
TOO_LONG = ("--kv-tokens", "512")
STAGES = replace(PLAN, flags=("--pipeline-parallel-size", "2"))


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with rooms_in(tmp_path) as make_room:
        yield make_room


def deploy(made: Room, *plans: Plan) -> list[str]:
    """Wants the first plan, with start recovery over all of them; every status that the fleet shows from now on."""
    settings, shown = made.settings, ["deploying"]
    healer = StartRecovery(
        settings.state_dir / "measured.json",
        settings.log_dir,
        "0.32.0",
        Numerics,
        lambda _plan: None,
        lambda _endpoint, plan, _replicas: plan.gpus or ((),),
        made.fleet.wish,
        SystemClock(),
        made.told.append,
    )
    made.fleet._report = lambda report: (made.reports.append(report), healer.cold_started(report))[0]
    wanted = replace(spec(), plan=plans[0])
    healer.deployed(wanted, PlanReport(tuple(Candidate(plan, 1.0) for plan in plans), ()))
    made.fleet.wish(wanted)

    told = made.told.append

    def look(event: object) -> None:
        told(event)  # type: ignore[arg-type]
        shown.append(made.fleet.view().endpoints["ep_x"].status)

    made.fleet._context.emit = look
    return shown


@pytest.mark.parametrize(
    ("flags", "plans", "code", "reason"),
    [
        (TOO_LONG, (PLAN,), "engine_context", "context: trying max_model_len 512"),
        (NO_CACHE, (PLAN, STAGES), "engine_kv_cache", "no_cache: trying flags"),
    ],
    ids=["context", "no_cache"],
)
async def test_a_mended_start_never_reports_that_it_was_given_up(
    make: Make, flags: tuple[str, ...], plans: tuple[Plan, ...], code: str, reason: str
) -> None:
    """Its cause is permanent for the plan that failed, deep above a traceback, and no word of it is final."""
    made = make(*flags, "--traceback", "150")
    shown = deploy(made, *plans)
    await made.until(lambda view: view.status == "live")
    assert [event.fields["code"] for event in made.events("engine_ended")] == [code]
    assert [str(event.fields["reason"]).startswith(reason) for event in made.events("replanned")] == [True]
    assert made.events("engine_given_up") == made.events("restart_scheduled") == []
    assert set(shown) <= {"deploying", "live"}
    assert [report.outcome for report in made.reports] == ["failed", "ready"]


async def test_a_start_that_nothing_mends_is_given_up_without_another_try(make: Make) -> None:
    """The planner has no remedy left, and the same plan would fail again: both sides end it at the first failure."""
    made = make("--kv-tokens", "100", "--traceback", "150")
    shown = deploy(made, PLAN)
    await made.until(lambda view: view.status == "failed")
    assert [event.name for event in made.told if getattr(event, "level", "") == "error"][:1] == [
        "replan_refused"
    ]
    assert len(made.events("engine_given_up")) == 1
    assert len(made.reports) == 1
    assert "live" not in shown
