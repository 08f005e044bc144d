"""Leaderboard: ranks a task's models by quality and cost, with the vendors' baseline. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel

from pareta_agent.contract import grant
from pareta_agent.contract.price import cost_micro_usd
from pareta_agent.contract.wire import WirePrice
from pareta_agent.plane.seed import price_of
from pareta_registry.catalog import Alias, Baseline, Catalog, Price, Task, TypicalTokens


class Entry(BaseModel):
    """`quality` is a value of the board's metric; `cost_per_request_micro_usd` is for a request of the usual size."""

    name: str
    kind: Literal["open", "frontier"]
    quality: float | None
    cost_per_request_micro_usd: int | None
    context_k: int | None
    run_mode: Literal["endpoint", "api"]


class Leaderboard(BaseModel):
    task_id: str
    metric: str | None
    cost_unit: Literal["micro_usd"] = "micro_usd"
    recommended: str
    models: list[Entry]
    frontier: Entry | None


def leaderboard(catalog: Catalog, task: Task) -> Leaderboard:
    """Returns open models, best first: by quality, then by the cost of a usual request. `frontier` is the best
    baseline.
    """
    contexts = {model.id: model.context for model in catalog.models}
    opened = [_open(task, alias, contexts[alias.model]) for alias in task.aliases]
    vendors = ranked(_frontier(task, baseline) for baseline in task.frontier)
    return Leaderboard(
        task_id=task.id,
        metric=task.scorer,
        recommended=task.recommended,
        models=ranked(opened),
        frontier=vendors[0] if vendors else None,
    )


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Sorts unmeasured models last, otherwise in catalog order."""

    def place(entry: Entry) -> tuple[float, float]:
        cost = entry.cost_per_request_micro_usd
        return -(-1.0 if entry.quality is None else entry.quality), math.inf if cost is None else cost

    return sorted(entries, key=place)


def usual_cost_micro_usd(price: WirePrice | Price | None, size: TypicalTokens | None) -> int | None:
    """Returns None where the price or the usual size is unknown."""
    if price is None or size is None:
        return None
    return cost_micro_usd(grant.TokenPrice(**price.model_dump()), size.input, 0, size.output)


def _open(task: Task, alias: Alias, context: int) -> Entry:
    return Entry(
        name=alias.id,
        kind="open",
        quality=alias.quality,
        cost_per_request_micro_usd=usual_cost_micro_usd(price_of(alias), task.typical_tokens),
        context_k=min(alias.max_model_len or context, context) // 1024,
        run_mode="endpoint",
    )


def _frontier(task: Task, baseline: Baseline) -> Entry:
    return Entry(
        name=baseline.id,
        kind="frontier",
        quality=baseline.quality,
        cost_per_request_micro_usd=usual_cost_micro_usd(baseline.price, task.typical_tokens),
        context_k=None if baseline.context is None else baseline.context // 1024,
        run_mode="api",
    )
