"""Each retry waits as long as its own formula once said; those formulas stand here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pareta_agent.backoff import EQUAL_JITTER, FULL_JITTER, Backoff, spread
from pareta_agent.control import plan_answers, reconciler
from pareta_agent.control.heartbeat import HeartbeatSettings
from pareta_agent.control.uplink import UplinkSettings
from pareta_agent.engine.replica.restart_policy import RestartAfter, decide
from pareta_agent.engine.spec import RestartSettings
from pareta_agent.gateway.workers.supervisor import RESTARTS
from pareta_agent.plane import embedded
from pareta_agent.plane.evals import model_client
from pareta_agent.weights import part

Formula = Callable[[int, float], float]
DRAWS = (0.0, 0.1, 0.25, 0.5, 0.75, 1 - 2**-53)
FAILURES = range(1, 64)


def uniform(low: float, high: float, draw: float) -> float:
    """As `random.uniform` computes it."""
    return low + (high - low) * draw


def full(first_s: float, cap_s: float) -> Formula:
    return lambda failures, draw: uniform(0, min(cap_s, first_s * 2 ** (failures - 1)), draw)


def restarted(settings: RestartSettings) -> Formula:
    def formula(failures: int, draw: float) -> float:
        delay_s = min(settings.max_delay_s, settings.first_delay_s * 2 ** min(failures - 1, 30))
        return min(settings.max_delay_s, delay_s * (1 + settings.jitter_ratio * (2 * draw - 1)))

    return formula


BEAT, LINK = HeartbeatSettings(), UplinkSettings()
CASES: dict[str, tuple[Formula, Backoff]] = {
    "desired state": (lambda n, draw: uniform(0, min(60.0, 2.0**n), draw), reconciler.RETRY),
    "plan questions": (lambda n, draw: uniform(0, min(60.0, 2.0 ** min(n, 6)), draw), plan_answers.RETRY),
    "registration": (full(1.0, 60.0), Backoff(BEAT.backoff_s, BEAT.backoff_max_s, FULL_JITTER)),
    "usage events": (full(1.0, 60.0), Backoff(LINK.backoff_s, LINK.backoff_max_s, FULL_JITTER)),
    "parts of weights": (lambda n, draw: uniform(0, min(30.0, 0.25 * 2**n), draw), part._BACKOFF),
    "eval calls": (lambda n, draw: uniform(0.5, 1.0, draw) * min(30.0, 2.0 ** (n - 1)), model_client.RETRY),
}


@pytest.mark.parametrize("name", CASES)
def test_delays_are_what_they_were(name: str) -> None:
    """To the last bit, for every draw and any number of failures."""
    formula, backoff = CASES[name]
    found = [backoff.delay_s(failures, draw) for failures in FAILURES for draw in DRAWS]
    assert found == [formula(failures, draw) for failures in FAILURES for draw in DRAWS]


@pytest.mark.parametrize("settings", [RestartSettings(budget=99), RESTARTS], ids=["engines", "workers"])
def test_restarts_are_spread_as_they_were(settings: RestartSettings) -> None:
    """Around the delay and never past its cap; but for the order of the multiplications, to the last bit."""
    allowed = RestartSettings(settings.first_delay_s, settings.max_delay_s, settings.jitter_ratio, budget=99)
    for failures in FAILURES:
        for draw in DRAWS:
            found = decide(failures, "", permanent=False, draw=draw, settings=allowed)
            assert isinstance(found, RestartAfter)
            assert found.delay_s == pytest.approx(restarted(settings)(failures, draw), rel=1e-15)


def test_the_embedded_plane_doubles_its_wait_without_jitter() -> None:
    """0.2 s, 0.4 s … 30 s."""
    wait_s, waits_s = 0.2, []
    for _ in range(12):
        waits_s.append(wait_s)
        wait_s = min(30.0, 2 * wait_s)
    assert [embedded._RESTART.delay_s(failures) for failures in range(1, 13)] == waits_s


def test_years_of_failures_wait_no_longer_than_the_cap() -> None:
    """2.0 ** 1024 would be an OverflowError, which ended the controller's task after half a day without a plane."""
    assert reconciler.RETRY.delay_s(1_000_000, 0.5) == 30.0


@pytest.mark.parametrize(
    ("jitter", "low_s", "high_s"),
    [(FULL_JITTER, 0.0, 8.0), (EQUAL_JITTER, 4.0, 8.0), (spread(0.2), 6.4, 9.6)],
)
def test_a_draw_moves_through_the_range(jitter, low_s: float, high_s: float) -> None:
    """From its low end to its high one."""
    backoff = Backoff(first_s=1.0, cap_s=60.0, jitter=jitter)
    assert [backoff.delay_s(4, 0.0), backoff.delay_s(4, 1.0)] == pytest.approx([low_s, high_s])
