"""Ledger rows: turn a usage event into a row of the ledger and a row of the timings. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pareta_agent.contract.grant import TokenPrice
from pareta_agent.contract.outcome import debited
from pareta_agent.contract.price import cost_micro_usd
from pareta_agent.contract.usage_record import Outcome, PartialPolicy

_PRINTABLE = "^[ -~]*$"  # text that every database accepts: a refused event would block all later events
_Count = Annotated[int, Field(ge=0, le=2**53)]


class _Tokens(BaseModel):
    model_config = ConfigDict(strict=True)
    input: _Count
    input_cached: _Count
    output: _Count
    output_reasoning: _Count


class _Finished(BaseModel):
    """The ledger's part of `inference.finished` data."""

    request_id: str = Field(min_length=1, max_length=128, pattern=_PRINTABLE)
    org: str
    key_id: str = Field(max_length=64, pattern=_PRINTABLE)
    endpoint: str
    outcome: Outcome
    usage_source: Literal["engine_final", "chunk_count", "none", "suspect"]
    tokens: _Tokens


def ledger_row(
    data: dict[str, Any],
    prices: Mapping[str, TokenPrice],
    known_orgs: Collection[str],
    partial: Mapping[str, PartialPolicy],
    seen: Collection[str],
) -> dict[str, Any] | str:
    """Returns the ledger row, or the reason for a rejection."""
    try:
        usage = _Finished.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return f"invalid data: {'.'.join(map(str, first['loc']))}: {first['type']}"
    if usage.request_id in seen:
        return "this request is in the ledger already"
    if usage.org not in known_orgs:
        return "unknown org"
    if (price := prices.get(usage.endpoint)) is None:
        return "unknown endpoint"
    tokens = usage.tokens
    costs = debited(usage.outcome, usage.usage_source, partial.get(usage.org, "none"))
    cost = cost_micro_usd(price, tokens.input, tokens.input_cached, tokens.output)
    return {
        "request_id": usage.request_id,
        "org": usage.org,
        "key_id": usage.key_id,
        "endpoint": usage.endpoint,
        "outcome": usage.outcome.value,
        "usage_source": usage.usage_source,
        "input_tokens": tokens.input,
        "cached_tokens": tokens.input_cached,
        "output_tokens": tokens.output,
        "reasoning_tokens": tokens.output_reasoning,
        "debit_micro_usd": cost if costs else 0,
    }


def timing_row(place: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Returns the request's times; a missing or invalid time does not reject the record."""
    begun_s, first_s, total_s = (data.get(name) for name in ("t_admit", "t_first_token", "t_end"))
    spent_s = float(total_s) if isinstance(total_s, int | float) else 0.0
    return {
        **{name: place[name] for name in ("source", "epoch", "sequence")},
        "endpoint": data["endpoint"],
        "first_token_s": float(first_s) if isinstance(first_s, int | float) else None,
        "total_s": spent_s,
        "finished_s": begun_s + spent_s if isinstance(begun_s, int | float) else place["received_s"],
    }
