"""Keys whose callers leave what they ask for."""

from __future__ import annotations

from typing import Any

from pareta_agent.contract.usage_record import Admission, Outcome, UsageRecord
from pareta_agent.gateway.accounting.partial_answers import PartialAnswers
from pareta_agent.telemetry.metrics import Metrics


def record(key_id: str, outcome: Outcome) -> UsageRecord:
    admission = Admission("r", "org", key_id, "ep", "t", "a", "/v1/completions", True, 1.7e9)
    return UsageRecord(admission, outcome, "chunk_count")


def test_a_key_over_the_mark_is_named_at_the_windows_end_and_then_forgotten(clock: Any) -> None:
    """Half of twenty is a habit; fewer calls or a smaller share are none."""
    told: list[Any] = []
    metrics = Metrics()
    partials = PartialAnswers(metrics, clock, told.append)
    for key_id, left, stayed in (("leaves", 10, 10), ("stays", 9, 11), ("rare", 19, 0)):
        for outcome, times in ((Outcome.PARTIAL_CLIENT, left), (Outcome.COMPLETED, stayed)):
            for _ in range(times):
                partials.count(record(key_id, outcome))
    partials.tick()
    assert told == []
    clock.now_s += 300
    partials.tick()
    assert [event.fields for event in told] == [
        {"org": "org", "key_id": "leaves", "ended": 20, "partial": 10}
    ]
    assert b"pareta_keys_mostly_partial 1.0" in metrics.render()
    clock.now_s += 300
    partials.tick()
    assert len(told) == 1
    assert b"pareta_keys_mostly_partial 0.0" in metrics.render()
