"""Engine usage: usage objects of every answer shape, and plausible counts."""

from __future__ import annotations

from typing import Any

import pytest

from pareta_agent.contract.usage_record import Tokens
from pareta_agent.meter.usage import Bounds, judge, plausible, tokens_of

SHAPES: dict[str, tuple[dict[str, Any], Tokens | None]] = {
    "chat": (
        {
            "prompt_tokens": 37,
            "total_tokens": 45,
            "completion_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 32},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        Tokens(37, 32, 8, 3),
    ),
    "null details": (
        {"prompt_tokens": 5, "completion_tokens": 0, "prompt_tokens_details": None},
        Tokens(5),
    ),
    "embeddings": ({"prompt_tokens": 6, "total_tokens": 6, "completion_tokens": 0}, Tokens(6)),
    "responses": (
        {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 2},
        },
        Tokens(9, 4, 7, 2),
    ),
    "messages": (
        {"input_tokens": 5, "output_tokens": 0, "cache_read_input_tokens": 16},
        Tokens(21, 16, 0, 0),
    ),
    "message_delta": ({"output_tokens": 12}, Tokens(0, 0, 12, 0)),
    "empty": ({}, None),
    "negative": ({"prompt_tokens": -1, "completion_tokens": 2}, None),
    "a float": ({"prompt_tokens": 1.5, "completion_tokens": 2}, None),
    "a bool": ({"prompt_tokens": True, "completion_tokens": 2}, None),
}


@pytest.mark.parametrize(("usage", "expected"), SHAPES.values(), ids=SHAPES.keys())
def test_tokens_of(usage: dict[str, Any], expected: Tokens | None) -> None:
    """Each shape gives counts, with cached tokens included in the input; an invalid object gives none."""
    assert tokens_of(usage) == expected


@pytest.mark.parametrize(
    ("tokens", "bounds", "expected"),
    [
        (Tokens(10, 10, 5, 5), Bounds(max_tokens=5, max_model_len=100), True),
        (Tokens(10, 11, 5), Bounds(), False),
        (Tokens(10, 0, 5, 6), Bounds(), False),
        (Tokens(10, 0, 6), Bounds(max_tokens=5), True),
        (Tokens(10, 0, 7), Bounds(max_tokens=5), False),
        (Tokens(10, 0, 12), Bounds(choices=2, max_tokens=5), True),
        (Tokens(10, 0, 13), Bounds(choices=2, max_tokens=5), False),
        (Tokens(101), Bounds(max_model_len=100), False),
        (Tokens(200), Bounds(prompts=2, max_model_len=100), True),
        (Tokens(402), Bounds(prompts=4, max_model_len=100, counts_output=False), True),
        (Tokens(403), Bounds(prompts=4, max_model_len=100, counts_output=False), False),
        (Tokens(10, 0, 102), Bounds(max_model_len=100), False),
        (Tokens(10, 0, 1), Bounds(counts_output=False), False),
        (Tokens(10), Bounds(counts_output=False), True),
    ],
)
def test_plausible(tokens: Tokens, bounds: Bounds, expected: bool) -> None:
    """Counts stay within the request's maximum, to the token."""
    assert plausible(tokens, bounds) is expected


def test_judge_keeps_what_it_suspects() -> None:
    """An implausible count is marked, not changed; without usage the chunks count."""
    assert judge(Tokens(1, 2), Bounds()) == (Tokens(1, 2), "suspect")
    assert judge(Tokens(2, 1), Bounds()) == (Tokens(2, 1), "engine_final")
    assert judge(None, Bounds(), chunks=4) == (Tokens(output=4), "chunk_count")
    assert judge(None, Bounds()) == (Tokens(), "none")
