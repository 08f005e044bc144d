"""Several endpoints on one node."""

from __future__ import annotations

from dataclasses import replace

from planner_values import LLAMA_8B, LLAMA_70B, SMOLLM2, gpus, host, node, variant

from pareta_agent.planning.placement.pack import Need, pack
from pareta_agent.planning.plan import Plan, PlanReport
from pareta_agent.planning.request import PlanRequest
from pareta_registry.catalog import Architecture, Variant

FP8_70B = variant("fp8", "fp8-w8a8", 67.7)
SMALL = variant(gib=0.25)


def need(name: str, arch: Architecture, one: Variant, replicas: int | None = 1) -> Need:
    return Need(name, arch, [one], PlanRequest(replicas=replicas))


def best(report: PlanReport) -> Plan:
    assert report.best is not None
    return report.best


def used(report: PlanReport) -> set[str]:
    return {uuid for group in best(report).gpus for uuid in group}


def test_the_large_model_chooses_first() -> None:
    """Named last, it still gets its two GPUs; the small one takes the third."""
    reports = pack([need("small", LLAMA_8B, variant()), need("large", LLAMA_70B, FP8_70B)], node(gpus(3)))
    assert (len(used(reports["large"])), len(used(reports["small"]))) == (2, 1)
    assert not used(reports["large"]) & used(reports["small"])


def test_everybody_has_one_before_anybody_has_two() -> None:
    """Two endpoints that would each fill eight GPUs share them evenly."""
    reports = pack([need(name, LLAMA_8B, variant(), None) for name in ("a", "b")], node(gpus(8)))
    assert [best(reports[name]).replicas for name in ("a", "b")] == [4, 4]
    assert not used(reports["a"]) & used(reports["b"])


def test_a_fixed_number_of_replicas_does_not_grow() -> None:
    """What is left goes to the one that grows."""
    reports = pack(
        [need("fixed", LLAMA_8B, variant(), 2), need("grows", LLAMA_8B, variant(), None)], node(gpus(8))
    )
    assert [best(reports[name]).replicas for name in ("fixed", "grows")] == [2, 6]


def test_small_models_share_the_only_gpu() -> None:
    """Their shares add up to less than the whole, so that both start."""
    roomy = replace(host(64.0), gpus=gpus(1))
    reports = pack([need(name, SMOLLM2, SMALL) for name in ("a", "b", "c")], roomy)
    shares = [best(reports[name]).gpu_memory_utilization or 1.0 for name in ("a", "b", "c")]
    assert {frozenset(used(report)) for report in reports.values()} == {frozenset({"GPU-0"})}
    assert sum(shares) < 1.0


def test_what_has_no_room_is_refused_and_takes_nothing_from_others() -> None:
    """A 70B beside an 8B on one GPU: the 8B keeps its whole plan."""
    alone = pack([need("small", LLAMA_8B, variant())], node(gpus(1)))
    both = pack([need("small", LLAMA_8B, variant()), need("large", LLAMA_70B, FP8_70B, 2)], node(gpus(1)))
    assert both["large"].best is None
    assert both["large"].rejections
    assert both["small"] == alone["small"]


def test_a_host_without_gpus_serves_them_side_by_side() -> None:
    """Each a CPU plan in its part of the memory; a third one may be too many."""
    two = [need(name, SMOLLM2, SMALL) for name in ("a", "b")]
    assert {best(report).platform for report in pack(two, host(13.0)).values()} == {"cpu"}
    three = [*two, need("c", SMOLLM2, SMALL)]
    assert [report.best for report in pack(three, host(13.0)).values()] == [None, None, None]


def test_the_order_of_equals_is_the_order_given() -> None:
    """Deterministic: first named, first served."""
    two = [need("a", LLAMA_8B, variant()), need("b", LLAMA_8B, variant())]
    reports = pack(two, node(gpus(2)))
    assert [used(reports[name]) for name in ("a", "b")] == [{"GPU-0"}, {"GPU-1"}]
    assert pack(two, node(gpus(2))) == pack([replace(one) for one in two], node(gpus(2)))
