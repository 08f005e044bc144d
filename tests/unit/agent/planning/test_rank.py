"""Preference before speed, and the words for it."""

from __future__ import annotations

import pytest
from planner_values import LLAMA_8B, LLAMA_70B, gpus, node, variant

from pareta_agent.planning.choose import plan
from pareta_agent.planning.rank import tier
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.support.quant import parse_quant


def test_formats_in_their_order() -> None:
    """Native fp8, as trained, unpacked fp8, int8, native fp4, int4, unpacked fp4."""
    order = [
        ("fp8-w8a8", "native"),
        ("none", "native"),
        ("fp8-block128", "weight_only"),
        ("int8-w8a8", "native"),
        ("nvfp4", "native"),
        ("awq-int4-g128", "weight_only"),
        ("nvfp4", "weight_only"),
    ]
    tiers = [tier(parse_quant(quant), kind) for quant, kind in order]  # type: ignore[arg-type]
    assert tiers == sorted(set(tiers))


@pytest.fixture(scope="module")
def whys() -> list[str]:
    variants = [
        variant("bf16", gib=131.4),
        variant("fp8", "fp8-w8a8", 67.7),
        variant("awq", "awq-int4-g128", 37.0),
    ]
    return [one.why for one in plan(LLAMA_70B, variants, node(gpus(8)), PlanRequest()).candidates]


@pytest.mark.parametrize(
    "reason",
    [
        "% lower",
        "the weights are less preferred than fp8",
        "tensor parallelism without stages suffices",
        "fp8 KV is not required",
        "the context is below 32k tokens",
    ],
)
def test_every_runner_up_says_what_it_lacks(whys: list[str], reason: str) -> None:
    """On a node where all of them occur."""
    assert any(reason in why for why in whys[1:])


def test_the_winner_says_what_it_gives(whys: list[str]) -> None:
    """Format, context, and an estimate per GPU."""
    assert whys[0].startswith("native fp8 (cutlass), 131,072 tokens of context, about ")


def test_tight_fits_are_ranked_by_context() -> None:
    """Where nothing is comfortable, the longest context wins."""
    card = gpus(1, 22.0, name="NVIDIA L4", compute_capability=(8, 9))
    variants = [variant("bf16", gib=18.4), variant("fp8", "fp8-w8a8", 18.6)]
    report = plan(LLAMA_8B, variants, node(card), PlanRequest())
    lengths = [one.plan.max_model_len for one in report.candidates]
    assert lengths == sorted(lengths, reverse=True)
    assert all(one.tight for one in report.candidates)
