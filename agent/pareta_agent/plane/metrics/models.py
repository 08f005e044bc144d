"""Metric models: the response shapes of an endpoint's metrics."""

from __future__ import annotations

from pydantic import BaseModel

from pareta_agent.contract.wire import WirePrice


class Span(BaseModel):
    since: str
    until: str
    seconds: int


class Spread(BaseModel):
    """Distribution of values; `count` is their number."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class Point(BaseModel):
    """One part of the window; `at` is the start."""

    at: str
    requests: int
    completed: int
    output_tokens: int
    debit_micro_usd: int


class Starts(BaseModel):
    """Cold starts: total, failed, and the duration of the successful starts, also by phase."""

    count: int
    failed: int
    seconds: Spread | None
    phase_median_s: dict[str, float]
    by_cause: dict[str, int]


class Metric(BaseModel):
    endpoint: str
    window: Span


class Performance(Metric):
    """Times of completed requests; above a limit only of the newest (`sampled`)."""

    requests: int
    completed: int
    requests_per_minute: float
    sampled: int
    ttft_ms: Spread | None
    latency_ms: Spread | None
    output_tokens_per_second: Spread | None
    cold_starts: Starts
    series: list[Point]


class Outage(BaseModel):
    status: str
    since: str
    until: str
    seconds: float


class Uptime(Metric):
    """`uptime_ratio` is live time over required time, which excludes stopped and asleep."""

    uptime_ratio: float | None
    status_seconds: dict[str, float]
    outages: list[Outage]
    cold_starts: int


class Cost(Metric):
    """Debited amounts: completed requests only. Tokens are of all requests."""

    debit_micro_usd: int
    requests: int
    completed: int
    mean_micro_usd: int | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    price: WirePrice
    series: list[Point]


class Benchmarked(BaseModel):
    metric: str | None
    quality: float | None


class Quality(Metric):
    """Requests by outcome, and the catalog's benchmark of this model."""

    requests: int
    completed: int
    completed_ratio: float | None
    outcomes: dict[str, int]
    usage_sources: dict[str, int]
    benchmark: Benchmarked


class Call(BaseModel):
    request_id: str
    at: str
    outcome: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    debit_micro_usd: int
    ttft_ms: float | None
    latency_ms: float


class Moment(BaseModel):
    at: str
    status: str


class Started(BaseModel):
    at: str
    cause: str
    outcome: str
    seconds: float


class Activity(Metric):
    requests: int
    last_request_at: str | None
    series: list[Point]
    recent: list[Call]
    statuses: list[Moment]
    cold_starts: list[Started]
