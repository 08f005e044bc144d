"""The planner's decisions, each for one reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planner_values import DEEPSEEK_V3, LLAMA_8B, LLAMA_70B, gpus, node, variant

from pareta_agent.hardware.inventory import GIB, Health, Mig
from pareta_agent.planning.choose import plan
from pareta_agent.planning.memory.footprint import Caps
from pareta_agent.planning.memory.learn import key_of
from pareta_agent.planning.memory.measured import Measured, Numbers
from pareta_agent.planning.plan import Plan
from pareta_agent.planning.request import PlanRequest

BF16_8B = variant()
BF16_70B, FP8_70B, AWQ_70B = (
    variant("bf16", gib=131.4),
    variant("fp8", "fp8-w8a8", 67.7),
    variant("awq", "awq-int4-g128", 37.0),
)
ASK = PlanRequest()


def best(*arguments: object, **more: object) -> Plan:
    report = plan(*arguments, **more)  # type: ignore[arg-type]
    assert report.best is not None, report.rejections
    return report.best


def layout(chosen: Plan) -> tuple[int, int, int]:
    return chosen.tp, chosen.pp, chosen.replicas


def test_replicas_fill_the_node_when_one_gpu_holds_the_model() -> None:
    """An 8B on eight H100s is eight engines."""
    assert layout(best(LLAMA_8B, [BF16_8B], node(gpus(8)), ASK)) == (1, 1, 8)


def test_the_smallest_tp_that_fits_starves_the_cache() -> None:
    """70B in bf16 fits two H100s with a thimble of cache: four are faster than twice as many pairs."""
    assert layout(best(LLAMA_70B, [BF16_70B], node(gpus(8)), ASK)) == (4, 1, 2)


def test_latency_takes_more_ranks_than_balance() -> None:
    """7 ms a token is out of one H100's reach for an 8B, four hold it."""
    assert best(LLAMA_8B, [BF16_8B], node(gpus(8)), PlanRequest("latency")).tp == 4


def test_a_fixed_number_of_replicas_takes_no_more() -> None:
    """The rest of the node is left to other endpoints; the choice is then per GPU."""
    chosen = best(LLAMA_8B, [BF16_8B], node(gpus(8)), PlanRequest(replicas=2))
    assert layout(chosen) == (1, 1, 2)
    assert chosen.gpus == (("GPU-0",), ("GPU-1",))


def test_a_tier_is_left_only_when_it_starves() -> None:
    """70B on one H100: fp8 would leave a short context, so 4 bits win; on two, fp8 stays."""
    assert best(LLAMA_70B, [BF16_70B, FP8_70B, AWQ_70B], node(gpus(1)), ASK).variant == "awq"
    assert best(LLAMA_70B, [BF16_70B, FP8_70B, AWQ_70B], node(gpus(2)), ASK).variant == "fp8"


def test_measured_quality_overrules_the_ladder() -> None:
    """An fp8 checkpoint that lost five points comes after bf16."""
    poor = variant("fp8", "fp8-w8a8", 8.46, quality=0.93)
    assert best(LLAMA_8B, [BF16_8B, poor], node(gpus(1)), ASK).variant == "bf16"


def test_unequal_gpus_never_work_together() -> None:
    """The large card runs the model alone; the small one is left for something else."""
    small = tuple(
        replace(gpu, uuid="small", name="A100 40") for gpu in gpus(1, 39.4, compute_capability=(8, 0))
    )
    large = gpus(1, 79.2, name="A100 80", compute_capability=(8, 0))
    chosen = best(LLAMA_70B, [FP8_70B, AWQ_70B], node(small, large), ASK)
    assert (chosen.variant, chosen.gpus) == ("awq", (("GPU-0",),))


def test_a_sick_gpu_is_left_out_and_named() -> None:
    """Seven of eight remain; the report says why."""
    eight = gpus(8)
    sick = replace(eight[3], health=Health(remapped_rows_failure=True))
    report = plan(LLAMA_8B, [BF16_8B], node((*eight[:3], sick, *eight[4:])), ASK)
    assert report.best is not None
    assert report.best.replicas == 7
    assert ("GPU GPU-3", "row remapping failed") in [(one.candidate, one.reason) for one in report.rejections]


def test_mig_slices_do_not_join() -> None:
    """Two slices hold half the model each, and cannot speak to each other."""
    slices = tuple(
        replace(gpu, mig=Mig(f"parent-{index}", "3g.40gb"), nvlink_peers=())
        for index, gpu in enumerate(gpus(2, 39.5))
    )
    report = plan(LLAMA_70B, [FP8_70B], node(slices), ASK)
    assert report.best is None
    assert layout(best(LLAMA_8B, [BF16_8B], node(slices), ASK)) == (1, 1, 2)


def test_utilization_follows_what_is_free() -> None:
    """30 of 79 GiB free: vLLM would refuse its default share at once."""
    chosen = best(LLAMA_8B, [BF16_8B], node(gpus(1, free_gib=30.0)), ASK)
    assert chosen.gpu_memory_utilization == pytest.approx((30.0 - 0.6) / 79.1, abs=0.01)


def test_a_busy_gpu_does_not_pull_the_others_down() -> None:
    """Seven idle GPUs with full caches beat eight with the busy one's share."""
    eight = gpus(8)
    busy = replace(eight[0], memory_free_bytes=20 * GIB)
    chosen = best(LLAMA_8B, [BF16_8B], node((busy, *eight[1:])), ASK)
    assert chosen.replicas == 7
    assert ("GPU-0",) not in chosen.gpus


def test_pcie_takes_stages_only_where_two_ranks_do_not_fit() -> None:
    """Two cards over PCIe: tensor parallel. Eight small ones that need four each: stages over pairs."""
    two = gpus(2, 31.4, name="NVIDIA GeForce RTX 5090", compute_capability=(12, 0), linked=False)
    large_8b = variant("bf16", gib=40.0)
    assert layout(best(LLAMA_8B, [large_8b], node(two), ASK)) == (2, 1, 1)


def test_more_than_two_ranks_over_pcie_are_a_last_resort() -> None:
    """Four cards of 66 GB: two pairs, although four ranks would hold more cache; the report says so."""
    cards = gpus(4, 66, name="NVIDIA L40S", compute_capability=(8, 9), linked=False)
    report = plan(LLAMA_70B, [FP8_70B], node(cards), ASK)
    assert [layout(one.plan) for one in report.candidates[:1]] == [(2, 1, 2)]
    wide = next(one for one in report.candidates if layout(one.plan) == (4, 1, 1))
    assert wide.why.endswith("two ranks are enough over PCIe")


def test_stages_beat_pairs_whose_cache_is_starved() -> None:
    """Four L40S of 44 GB: a pair holds 38k tokens, four stages hold 280k and the whole context."""
    cards = gpus(4, 44.4, name="NVIDIA L40S", compute_capability=(8, 9), linked=False)
    chosen = best(LLAMA_70B, [FP8_70B], node(cards), ASK)
    assert (layout(chosen), chosen.max_model_len) == ((1, 4, 1), 131072)


def test_two_ranks_with_stages_come_before_more_ranks_over_pcie() -> None:
    """Four L4 and 70B at 4 bits: no plain pair holds it; only who waits for each token crosses PCIe in every layer."""
    cards = node(gpus(4, 22.0, name="NVIDIA L4", compute_capability=(8, 9), linked=False))
    awq = variant("awq", "awq-int4-g128", 37.0)
    assert layout(best(LLAMA_70B, [awq], cards, ASK))[0] <= 2
    assert layout(best(LLAMA_70B, [awq], cards, PlanRequest(objective="latency"))) == (4, 1, 1)


def test_stages_use_what_tensor_parallelism_leaves_idle() -> None:
    """Three H100s, 64 heads: three stages with a full cache beat two starved ranks and an idle GPU."""
    assert layout(best(LLAMA_70B, [BF16_70B], node(gpus(3)), ASK)) == (1, 3, 1)


def test_sixteen_bits_that_crawl_give_way_to_eight() -> None:
    """70B on four 40 GB cards: bf16 just fits, unpacked fp8 loses next to nothing and is many times as fast."""
    cards = gpus(4, 39.4, name="NVIDIA A100-SXM4-40GB", compute_capability=(8, 0))
    assert best(LLAMA_70B, [BF16_70B, FP8_70B], node(cards), ASK).variant == "fp8"


def test_an_asked_context_is_a_demand_and_the_catalogs_a_limit() -> None:
    """A demand that does not fit refuses; a limit that does not fit serves less."""
    small = node(gpus(1, 23.5, name="NVIDIA GeForce RTX 4090", compute_capability=(8, 9)))
    assert plan(LLAMA_8B, [BF16_8B], small, PlanRequest(max_model_len=131072)).best is None
    assert 8192 < best(LLAMA_8B, [BF16_8B], small, PlanRequest(context=131072)).max_model_len < 131072
    assert best(LLAMA_8B, [BF16_8B], small, PlanRequest(context=4096)).max_model_len == 4096


def test_an_old_driver_is_refused_whatever_fits() -> None:
    """CUDA 12.2 cannot run a CUDA 13 build; a build for 12 can be planned."""
    old = node(gpus(1), driver="535.104.05", cuda_driver=12020)
    report = plan(LLAMA_8B, [BF16_8B], old, ASK)
    assert report.best is None
    assert "CUDA 12.2" in report.rejections[0].reason
    assert plan(LLAMA_8B, [BF16_8B], old, PlanRequest(cuda_build=12090)).best is not None


def test_a_drivers_branch_tells_its_cuda_where_nvml_does_not() -> None:
    """CUDA 13 came with 580."""
    reports = [
        plan(LLAMA_8B, [BF16_8B], node(gpus(1), driver=one), ASK) for one in ("570.86.10", "580.65.06")
    ]
    assert [report.best is None for report in reports] == [True, False]


def test_unified_memory_is_the_hosts() -> None:
    """No memory from NVML: the host's available bytes are the GPU's, less what the engine's processes take."""
    gb10 = tuple(
        replace(
            gpu,
            name="NVIDIA GB10",
            compute_capability=(12, 1),
            memory_total_bytes=None,
            memory_free_bytes=None,
        )
        for gpu in gpus(1)
    )
    shared = node(gb10, unified_memory=True, memory_bytes=120 * GIB, memory_available_bytes=113 * GIB)
    share = best(LLAMA_8B, [BF16_8B], shared, ASK).gpu_memory_utilization
    assert share is not None
    assert 0.7 < share < 0.85


def test_experts_over_ranks_are_for_busy_nodes() -> None:
    """DeepSeek on eight H200s: tensor parallel by default, ranks of experts when throughput is all."""
    h200 = gpus(8, 139.8, name="NVIDIA H200")
    fp8 = variant("fp8", "fp8-block128", 641.3)
    assert layout(best(DEEPSEEK_V3, [fp8], node(h200), ASK)) == (8, 1, 1)
    busy = best(DEEPSEEK_V3, [fp8], node(h200), PlanRequest("throughput"))
    assert (busy.dp, busy.expert_parallel) == (8, True)


def test_settings_that_a_catalog_may_not_make_refuse_the_plan() -> None:
    """A path or a port in the catalog is no engine setting."""
    report = plan(LLAMA_8B, [BF16_8B], node(gpus(1)), PlanRequest(settings={"chat_template": "/etc/passwd"}))
    assert report.best is None
    assert "chat_template" in report.rejections[0].reason


def test_catalog_settings_shape_the_plan() -> None:
    """Caps are upper limits, a cache dtype is fixed, the rest travels as flags."""
    settings = {"max_num_seqs": 16, "max_num_batched_tokens": 1024, "kv_cache_dtype": "fp8", "seed": 7}
    chosen = best(LLAMA_8B, [BF16_8B], node(gpus(1)), PlanRequest(settings=settings))
    assert (chosen.max_num_seqs, chosen.max_num_batched_tokens, chosen.kv_cache_dtype) == (16, 1024, "fp8")
    assert chosen.flags == ("--seed", "7")


def test_a_measured_start_corrects_the_closed_form() -> None:
    """The engine held 10 GiB more than the formula says: the next cache is that much smaller."""
    inventory = node(gpus(1))
    first = best(LLAMA_8B, [BF16_8B], inventory, ASK)
    key = key_of(first, BF16_8B.artifact, "NVIDIA H100 80GB HBM3")
    heavier = Numbers(Caps(8192, 1024), first.footprint.weights_bytes + 10 * GIB)
    second = best(LLAMA_8B, [BF16_8B], inventory, ASK, measured=Measured().learned(key, heavier))
    assert first.footprint.kv_bytes - second.footprint.kv_bytes == 10 * GIB


def test_what_cannot_start_on_such_a_gpu_is_not_tried_again() -> None:
    """A blacklisted artifact is rejected with its reason."""
    refused = Measured().blacklisted(BF16_8B.artifact, (9, 0))
    report = plan(LLAMA_8B, [BF16_8B], node(gpus(1)), ASK, measured=refused)
    assert report.best is None
    assert "an earlier start on such a GPU failed permanently" in report.rejections[0].reason


def test_no_gpu_fits_and_the_numbers_say_so() -> None:
    """Each rejection with bytes carries what it needs and what there is."""
    report = plan(LLAMA_70B, [BF16_70B], node(gpus(1)), ASK)
    shortage = report.rejections[0]
    assert report.verdict == "impossible"
    assert shortage.need_bytes is not None
    assert shortage.have_bytes is not None
    assert shortage.need_bytes > 131 * GIB > 73 * GIB > shortage.have_bytes > 72 * GIB


def test_a_short_context_is_a_tight_fit() -> None:
    """It starts, and the report says how freely."""
    card = gpus(1, 22.0, name="NVIDIA L4", compute_capability=(8, 9))
    assert plan(LLAMA_8B, [variant(gib=17.5)], node(card), ASK).verdict == "tight"
    assert plan(LLAMA_8B, [variant(gib=8.0)], node(card), ASK).verdict == "compatible"
