"""Metric aggregation: turns rows into the response shapes of metrics. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pareta_agent.plane.metrics.models import Call, Moment, Outage, Point, Span, Spread, Started, Starts
from pareta_agent.plane.metrics.queries import Aggregate, EndpointStart, RequestTimes
from pareta_agent.plane.metrics.timeline import Stretch
from pareta_agent.plane.metrics.window import Window, iso


def span(window: Window) -> Span:
    return Span(since=iso(window.since_s), until=iso(window.until_s), seconds=window.seconds)


def spread(values: Iterable[float], digits: int = 1) -> Spread | None:
    """Returns the distribution, None without values. A percentile is the nearest rank."""
    ordered = sorted(values)
    if not ordered:
        return None

    def rank(percent: int) -> float:
        return round(ordered[-(-percent * len(ordered) // 100) - 1], digits)

    return Spread(
        count=len(ordered),
        mean=round(statistics.fmean(ordered), digits),
        p50=rank(50),
        p90=rank(90),
        p95=rank(95),
        p99=rank(99),
        max=round(ordered[-1], digits),
    )


def first_token_ms(samples: Iterable[RequestTimes]) -> Spread | None:
    return spread(1000 * each.first_token_s for each in samples if each.first_token_s is not None)


def latency_ms(samples: Iterable[RequestTimes]) -> Spread | None:
    return spread(1000 * each.total_s for each in samples)


def tokens_per_second(samples: Iterable[RequestTimes]) -> Spread | None:
    """Returns the generation rate of each answer, from the first token on."""
    writing = [
        (each.output_tokens - 1, each.total_s - each.first_token_s)
        for each in samples
        if each.first_token_s is not None and each.output_tokens > 1
    ]
    return spread(tokens / took_s for tokens, took_s in writing if took_s > 0)


def starts(found: Sequence[EndpointStart]) -> Starts:
    ready = [each.start_report for each in found if each.start_report.outcome == "ready"]
    phases = sorted({phase for start_report in ready for phase in start_report.phases})
    causes = [each.start_report.cause for each in found]
    return Starts(
        count=len(found),
        failed=sum(each.start_report.outcome == "failed" for each in found),
        seconds=spread((start_report.total_s for start_report in ready), 3),
        phase_median_s={
            phase: round(statistics.median(start_report.phases.get(phase, 0.0) for start_report in ready), 3)
            for phase in phases
        },
        by_cause={cause: causes.count(cause) for cause in sorted(set(causes))},
    )


def series(window: Window, aggregates: Mapping[int, Aggregate]) -> list[Point]:
    """Returns every part of the window, including empty parts."""
    nothing = Aggregate()
    start_report = ((at_s, aggregates.get(at_s, nothing)) for at_s in window.parts)
    return [
        Point(
            at=iso(at_s),
            requests=aggregate.requests,
            completed=aggregate.completed,
            output_tokens=aggregate.output_tokens,
            debit_micro_usd=aggregate.debit_micro_usd,
        )
        for at_s, aggregate in start_report
    ]


def total(aggregates: Iterable[Aggregate]) -> Aggregate:
    """Returns the sum of all aggregates."""
    found = list(aggregates)
    return Aggregate(
        **{name: sum(getattr(each, name) for each in found) for name in Aggregate.__dataclass_fields__}
    )


def call(row: Mapping[str, Any]) -> Call:
    """Returns one ledger row with the request's times."""
    first_s = row["first_token_s"]
    names = ("request_id", "outcome", "input_tokens", "cached_tokens", "output_tokens", "debit_micro_usd")
    return Call(
        **{name: row[name] for name in names},
        at=iso(row["finished_s"]),
        ttft_ms=None if first_s is None else round(1000 * first_s, 1),
        latency_ms=round(1000 * row["total_s"], 1),
    )


def started(start: EndpointStart) -> Started:
    start_report = start.start_report
    return Started(
        at=iso(start.at_s),
        cause=start_report.cause,
        outcome=start_report.outcome,
        seconds=round(start_report.total_s, 3),
    )


def moment(stretch: Stretch) -> Moment:
    return Moment(at=iso(stretch.since_s), status=stretch.status)


def outage(stretch: Stretch) -> Outage:
    return Outage(
        status=stretch.status,
        since=iso(stretch.since_s),
        until=iso(stretch.until_s),
        seconds=round(stretch.seconds, 3),
    )
