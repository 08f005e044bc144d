"""From what was seen of a request to its one usage record. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pareta_agent.engine.view import ReplicaView
from pareta_agent.meter.outcome import Facts, outcome
from pareta_agent.meter.record import Admission, Tokens, UsageRecord
from pareta_agent.meter.usage import Bounds, judge


@dataclass(frozen=True, slots=True)
class Times:
    """Monotonic seconds; None for what never came."""

    admitted_s: float
    ended_s: float
    first_token_s: float | None = None


def settle(
    admission: Admission,
    facts: Facts,
    tokens: Tokens | None,
    bounds: Bounds,
    chunks: int,
    times: Times,
    replica: ReplicaView,
    retries: int = 0,
) -> UsageRecord:
    """The terminal record of an admission."""
    counted, source = judge(tokens, bounds, chunks)
    first = times.first_token_s
    return UsageRecord(
        admission=admission,
        outcome=outcome(facts),
        usage_source=source,
        tokens=counted,
        finish_reasons=facts.finish_reasons,
        choices=facts.choices,
        retry_count=retries,
        t_first_token_s=None if first is None else first - times.admitted_s,
        t_end_s=times.ended_s - times.admitted_s,
        replica=replica.name,
        generation=replica.generation,
        engine_version=replica.engine_version,
    )
