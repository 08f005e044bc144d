"""Restart policy: decides whether and when an ended engine starts again. Pure arithmetic over past lives.

Clock and random number come in as values.
"""

from __future__ import annotations

from dataclasses import dataclass

from pareta_agent.backoff import Backoff, spread
from pareta_agent.engine.spec import RestartSettings


@dataclass(frozen=True, slots=True)
class RestartAfter:
    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The terminal decision: `reason` is a sentence that a person can act on."""

    reason: str


def failures_after(failures: int, ready_s: float, settings: RestartSettings) -> int:
    """Failures in a row, the present included, after a life that was ready for `ready_s`."""
    return 1 if ready_s >= settings.healthy_s else failures + 1


def decide(
    failures: int,
    reason: str,
    *,
    permanent: bool,
    draw: float,
    settings: RestartSettings,
    served: bool = False,
) -> RestartAfter | GiveUp:
    """The decision after the `failures`th failure in a row; `draw` in [0, 1) places the jitter.

    The delay doubles from `first_delay_s` to `max_delay_s`, give or take `jitter_ratio`. The first failure of an
    engine that `served` costs no delay, for a repeat is not yet likely. A `permanent` failure (wrong answer, bad flag,
    nothing to run) ends at once: repeating costs minutes and changes nothing.
    """
    if permanent:
        return GiveUp(reason)
    if failures > settings.budget:
        return GiveUp(f"{reason}; gave up after {failures} failures in a row")
    if failures == 1 and served:
        return RestartAfter(0.0)
    backoff = Backoff(settings.first_delay_s, settings.max_delay_s, spread(settings.jitter_ratio))
    return RestartAfter(backoff.delay_s(failures, draw))
