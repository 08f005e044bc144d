"""Metrics API: `GET /v1/endpoints/{id}/performance | uptime | cost | quality | activity`, over a window.

All numbers come from nodes' reports: the ledger, timings, cold starts and status changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from pareta_agent.plane.api.auth import ApiRefused, TheCaller, TheCatalog, refusals
from pareta_agent.plane.api.endpoint_api import find
from pareta_agent.plane.api.node_api import ThePlane
from pareta_agent.plane.metrics import aggregate as sums
from pareta_agent.plane.metrics import timeline, window
from pareta_agent.plane.metrics.models import Activity, Benchmarked, Cost, Performance, Quality, Span, Uptime
from pareta_agent.plane.metrics.queries import Subject
from pareta_agent.plane.metrics.window import iso
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.store.deployments import Deployed
from pareta_registry.catalog import Catalog

router = APIRouter(prefix="/v1/endpoints/{id}", tags=["metrics"], responses=refusals("endpoint_not_found"))


@dataclass(frozen=True, slots=True)
class MetricQuery:
    endpoint: Deployed
    subject: Subject

    @property
    def span(self) -> Span:
        return sums.span(self.subject.window)


def _asked(
    id: str,  # noqa: A002
    caller: TheCaller,
    plane: ThePlane,
    length: Annotated[str, Query(alias="window", description="Like 15m, 24h, 7d.")] = window.DEFAULT,
    since: Annotated[str, Query(description="Unix seconds or ISO 8601.")] = "",
    until: Annotated[str, Query(description="Unix seconds or ISO 8601; unset: now.")] = "",
) -> MetricQuery:
    """Returns org, endpoint and window of the request; refuses another org's endpoint and an invalid window."""
    found = find(plane, caller, id)
    asked = window.parse(length, since or None, until or None, plane.clock.wall_s())
    if isinstance(asked, str):
        raise ApiRefused("validation_failed", asked)
    return MetricQuery(found, Subject(caller.org, found.id, asked))


TheAsked = Annotated[MetricQuery, Depends(_asked)]


@router.get("/performance")
def performance(asked: TheAsked, plane: ThePlane) -> Performance:
    subject, metrics = asked.subject, plane.metrics
    samples, parts = metrics.samples(subject), metrics.by_part(subject)
    aggregate = sums.total(parts.values())
    return Performance(
        endpoint=subject.endpoint,
        window=asked.span,
        requests=aggregate.requests,
        completed=aggregate.completed,
        requests_per_minute=round(60 * aggregate.requests / subject.window.seconds, 3),
        sampled=len(samples),
        ttft_ms=sums.first_token_ms(samples),
        latency_ms=sums.latency_ms(samples),
        output_tokens_per_second=sums.tokens_per_second(samples),
        cold_starts=sums.starts(metrics.starts(subject)),
        series=sums.series(subject.window, parts),
    )


@router.get("/uptime")
def uptime(asked: TheAsked, plane: ThePlane) -> Uptime:
    stretches = _stretches(asked, plane)
    spent = timeline.seconds_by_status(stretches)
    ratio = timeline.uptime_ratio(spent)
    return Uptime(
        endpoint=asked.endpoint.id,
        window=asked.span,
        uptime_ratio=None if ratio is None else round(ratio, 6),
        status_seconds={status: round(seconds, 3) for status, seconds in spent.items()},
        outages=[sums.outage(each) for each in timeline.outages(stretches)],
        cold_starts=len(plane.metrics.starts(asked.subject)),
    )


@router.get("/cost")
def cost(asked: TheAsked, plane: ThePlane) -> Cost:
    parts = plane.metrics.by_part(asked.subject)
    aggregate = sums.total(parts.values())
    return Cost(
        endpoint=asked.endpoint.id,
        window=asked.span,
        debit_micro_usd=aggregate.debit_micro_usd,
        requests=aggregate.requests,
        completed=aggregate.completed,
        mean_micro_usd=round(aggregate.debit_micro_usd / aggregate.completed)
        if aggregate.completed
        else None,
        input_tokens=aggregate.input_tokens,
        cached_tokens=aggregate.cached_tokens,
        output_tokens=aggregate.output_tokens,
        reasoning_tokens=aggregate.reasoning_tokens,
        price=asked.endpoint.price,
        series=sums.series(asked.subject.window, parts),
    )


@router.get("/quality")
def quality(asked: TheAsked, plane: ThePlane, catalog: TheCatalog) -> Quality:
    outcomes = plane.metrics.by_outcome(asked.subject)
    aggregate = sums.total(outcomes.values())
    return Quality(
        endpoint=asked.endpoint.id,
        window=asked.span,
        requests=aggregate.requests,
        completed=aggregate.completed,
        completed_ratio=round(aggregate.completed / aggregate.requests, 6) if aggregate.requests else None,
        outcomes={outcome: each.requests for outcome, each in sorted(outcomes.items())},
        usage_sources=plane.metrics.by_source(asked.subject),
        benchmark=_benchmark(catalog, asked.endpoint),
    )


@router.get("/activity")
def activity(asked: TheAsked, plane: ThePlane, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Activity:
    subject = asked.subject
    parts, recent = plane.metrics.by_part(subject), plane.metrics.newest(subject, limit)
    return Activity(
        endpoint=subject.endpoint,
        window=asked.span,
        requests=sums.total(parts.values()).requests,
        last_request_at=iso(recent[0]["finished_s"]) if recent else None,
        series=sums.series(subject.window, parts),
        recent=[sums.call(row) for row in recent],
        statuses=[sums.moment(each) for each in _stretches(asked, plane)],
        cold_starts=[sums.started(each) for each in plane.metrics.starts(subject)],
    )


def _stretches(asked: MetricQuery, plane: Plane) -> list[timeline.Stretch]:
    changes = plane.metrics.changes(asked.endpoint.id, plane.nodes.lost_since_s())
    return timeline.stretches(changes, asked.subject.window, plane.clock.wall_s())


def _benchmark(catalog: Catalog, endpoint: Deployed) -> Benchmarked:
    task = next((each for each in catalog.tasks if each.id == endpoint.task), None)
    aliases = task.aliases if task else ()
    quality = next((each.quality for each in aliases if each.id == endpoint.alias), None)
    return Benchmarked(metric=task.scorer if task else None, quality=quality)
