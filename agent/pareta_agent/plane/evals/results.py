"""Eval results: a model's quality, cost and speed from the answers of a run, errors counted apart. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pydantic import BaseModel

from pareta_agent.contract import grant
from pareta_agent.contract.price import cost_micro_usd
from pareta_agent.contract.wire import WirePrice
from pareta_agent.plane.evals.runs import EvalCandidate, Kind, RowAnswer
from pareta_agent.plane.evals.scorers import quality
from pareta_registry.catalog import Price


class Result(BaseModel):
    """Result of one model. Quality and the 95 % interval are over the answered rows; latencies in seconds."""

    model_id: str
    kind: Kind
    quality_mean: float | None
    quality_ci_low: float | None
    quality_ci_high: float | None
    mean_cost_micro_usd: int | None
    total_cost_micro_usd: int
    latency_p50_s: float | None
    latency_mean_s: float | None
    n_succeeded: int
    error_count: int
    error_detail: str | None


def result(candidate: EvalCandidate, answers: Sequence[RowAnswer]) -> Result:
    right = [each for each in answers if each.score is not None]
    found = quality([each.score for each in right if each.score is not None])
    cost = sum(each.cost_micro_usd for each in answers)
    latencies = [each.latency_s for each in right]
    first_error = next((each.error for each in answers if each.error), None)
    return Result(
        model_id=candidate.model,
        kind=candidate.kind,
        quality_mean=found.mean if found else None,
        quality_ci_low=found.low if found else None,
        quality_ci_high=found.high if found else None,
        mean_cost_micro_usd=round(cost / len(right)) if right else None,
        total_cost_micro_usd=cost,
        latency_p50_s=statistics.median(latencies) if latencies else None,
        latency_mean_s=statistics.fmean(latencies) if latencies else None,
        n_succeeded=len(right),
        error_count=len(answers) - len(right),
        error_detail=candidate.error or first_error,
    )


def estimate_micro_usd(price: WirePrice | Price, rows: int, prompt_bytes: int, answer_tokens: int) -> int:
    """Returns an estimate of a model's cost in a run: prompts at three bytes a token, and usual answers."""
    per_token = grant.TokenPrice(**price.model_dump())
    return cost_micro_usd(per_token, prompt_bytes // 3, 0, rows * answer_tokens)
