"""Backoff, budget and verdict."""

from __future__ import annotations

from pareta_agent.engine.replica.restart_policy import GiveUp, RestartAfter, decide, failures_after
from pareta_agent.engine.spec import RestartSettings

SETTINGS = RestartSettings(jitter_ratio=0.0, budget=10)


def test_delay_doubles_up_to_its_limit() -> None:
    """1, 2, 4 … 60 seconds."""
    delays = [decide(n, "r", permanent=False, draw=0.5, settings=SETTINGS) for n in range(1, 9)]
    assert delays == [RestartAfter(s) for s in (1, 2, 4, 8, 16, 32, 60, 60)]


def test_jitter_spreads_both_ways_and_never_past_the_limit() -> None:
    """±20 % of the delay."""
    settings = RestartSettings(budget=10)
    assert decide(1, "r", permanent=False, draw=0.0, settings=settings) == RestartAfter(0.8)
    assert decide(2, "r", permanent=False, draw=1.0, settings=settings) == RestartAfter(2.4)
    assert decide(9, "r", permanent=False, draw=1.0, settings=settings) == RestartAfter(60.0)


def test_budget_ends_in_a_sentence() -> None:
    """One more failure than the budget is the last."""
    assert decide(11, "the engine ended", permanent=False, draw=0.5, settings=SETTINGS) == GiveUp(
        "the engine ended; gave up after 11 failures in a row"
    )


def test_permanent_failure_is_not_repeated() -> None:
    """A wrong answer stays wrong."""
    assert decide(1, "wrong", permanent=True, draw=0.5, settings=SETTINGS) == GiveUp("wrong")


def test_a_healthy_life_clears_the_count() -> None:
    """Five minutes of service forgive what came before."""
    assert failures_after(4, 10.0, SETTINGS) == 5
    assert failures_after(4, 300.0, SETTINGS) == 1


def test_an_engine_that_served_starts_again_at_once_the_first_time() -> None:
    """Without a pause; the second failure in a row waits like any other."""
    again = [decide(n, "r", permanent=False, served=True, draw=0.5, settings=SETTINGS) for n in (1, 2)]
    assert again == [RestartAfter(0.0), RestartAfter(2.0)]
