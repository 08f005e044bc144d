"""A refusal says what would fit."""

from __future__ import annotations

from dataclasses import replace

from planner_values import LLAMA_8B, LLAMA_70B, SMOLLM2, gpus, host, node, variant

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.nearest import plan_or_nearest
from pareta_agent.planning.request import PlanRequest

CARD = gpus(1, 23.5, name="NVIDIA GeForce RTX 4090", compute_capability=(8, 9), linked=False)


def nearest(*arguments: object) -> str | None:
    return plan_or_nearest(*arguments).rejections[0].nearest  # type: ignore[arg-type]


def test_a_shorter_context_and_more_gpus() -> None:
    """Both ways out, in one sentence."""
    said = nearest(LLAMA_8B, [variant()], node(CARD), PlanRequest(max_model_len=131072))
    assert said is not None
    assert said.startswith("fits with max_model_len ")
    assert said.endswith(", or on 2 × NVIDIA GeForce RTX 4090")


def test_fewer_replicas() -> None:
    """Four were wanted, two GPUs hold two."""
    two = gpus(2, 23.5, name="NVIDIA GeForce RTX 4090", compute_capability=(8, 9), linked=False)
    said = nearest(LLAMA_8B, [variant()], node(two), PlanRequest(replicas=4))
    assert said is not None
    assert "fits with 2 replicas" in said


def test_memory_that_others_hold() -> None:
    """The card is large enough, once it is free."""
    busy = tuple(replace(gpu, memory_free_bytes=5 * GIB) for gpu in CARD)
    assert (
        nearest(LLAMA_8B, [variant()], node(busy), PlanRequest()) == "fits once other programs free the GPUs"
    )


def test_the_hosts_memory_that_others_hold() -> None:
    """The same on a node without GPUs."""
    said = nearest(SMOLLM2, [variant(gib=0.25)], host(24.0, 1.0), PlanRequest())
    assert said == "fits once other programs free host memory"


def test_the_first_rejection_is_the_nearest_miss() -> None:
    """Of several variants, the one that lacks least."""
    variants = [variant("bf16", gib=131.4), variant("awq", "awq-int4-g128", 37.0)]
    first = plan_or_nearest(LLAMA_70B, variants, node(CARD), PlanRequest()).rejections[0]
    assert first.candidate.startswith("awq")


def test_nothing_would_help_an_unsupported_chip() -> None:
    """No way out is invented."""
    old = gpus(4, 31.7, name="Tesla V100-SXM2-32GB", compute_capability=(7, 0))
    assert nearest(LLAMA_8B, [variant()], node(old), PlanRequest()) is None
