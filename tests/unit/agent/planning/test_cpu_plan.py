"""Plans for a node without GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planner_values import LLAMA_70B, SMOLLM2, host, variant

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.choose import plan
from pareta_agent.planning.cpu_plan import CPU
from pareta_agent.planning.memory.learn import key_of, learn
from pareta_agent.planning.memory.measured import Measured
from pareta_agent.planning.request import PlanRequest

DEMO = variant(gib=269_030_016 / GIB)


def test_the_demo_plans_on_a_laptop() -> None:
    """135M parameters, eager, a gibibyte of cache, the whole context."""
    report = plan(SMOLLM2, [DEMO], host(), PlanRequest())
    chosen = report.best
    assert chosen is not None
    assert (chosen.platform, chosen.enforce_eager, chosen.gpus) == ("cpu", True, ((),))
    assert (chosen.kv_cache_bytes, chosen.max_model_len) == (GIB, 8192)
    assert chosen.gpu_memory_utilization is None
    assert report.verdict == "compatible"


def test_a_small_host_gets_a_smaller_cache() -> None:
    """Free memory less weights and processes is the cache, the context follows."""
    report = plan(SMOLLM2, [DEMO], host(8.0, 5.35), PlanRequest())
    chosen = report.best
    assert chosen is not None
    assert report.verdict == "tight"
    assert chosen.kv_cache_bytes is not None
    assert chosen.kv_cache_bytes < 200 << 20
    assert 2048 <= chosen.max_model_len <= chosen.kv_cache_bytes // 23040


def test_a_model_beyond_the_hosts_memory_is_refused_with_arithmetic() -> None:
    """131 GiB of weights do not go into 24."""
    report = plan(LLAMA_70B, [variant(gib=131.4)], host(), PlanRequest())
    assert report.best is None
    shortage = report.rejections[0]
    assert shortage.need_bytes is not None
    assert shortage.have_bytes is not None
    assert shortage.need_bytes > 131 * GIB
    assert shortage.have_bytes <= 24 * GIB


def test_quantized_weights_need_a_gpu() -> None:
    """The plain variant is chosen, the other one named among the rejections."""
    report = plan(SMOLLM2, [variant("awq", "awq-int4-g128", 0.1), DEMO], host(), PlanRequest())
    assert report.best is not None
    assert report.best.variant == "bf16"
    assert "require a GPU" in report.rejections[0].reason


def test_replicas_share_the_host() -> None:
    """Two engines need twice the memory."""
    chosen = plan(SMOLLM2, [DEMO], host(), PlanRequest(replicas=2)).best
    assert chosen is not None
    assert (chosen.replicas, chosen.gpus) == (2, ((), ()))
    assert plan(SMOLLM2, [DEMO], host(), PlanRequest(replicas=9)).best is None


def test_an_unknown_amount_of_memory_is_no_place() -> None:
    """Nothing is guessed."""
    blind = replace(host(), memory_available_bytes=None)
    assert (
        plan(SMOLLM2, [DEMO], blind, PlanRequest()).rejections[0].reason
        == "the host's free memory is unknown"
    )


def test_catalog_and_owner_shape_the_plan() -> None:
    """Caps from the catalog, the cache's size from the node's owner."""
    asked = PlanRequest(settings={"max_num_seqs": 4}, kv_cache_bytes=256 << 20, max_model_len=2048)
    chosen = plan(SMOLLM2, [DEMO], host(), asked).best
    assert chosen is not None
    assert (chosen.max_num_seqs, chosen.kv_cache_bytes, chosen.max_model_len) == (4, 256 << 20, 2048)


def test_a_start_that_held_less_sizes_the_next_cache() -> None:
    """A third of the expected tokens: the cache grows threefold for the same context, and is not believed again."""
    asked = PlanRequest(max_model_len=8192, kv_cache_bytes=200 << 20, settings={"dtype": "bfloat16"})
    first = plan(SMOLLM2, [DEMO], host(), asked).best
    assert first is not None
    log = f"INFO CPU KV cache size: {first.kv_tokens // 3:,} tokens"
    known = Measured().learned(key_of(first, DEMO.artifact, CPU), learn(first, log))
    refused = plan(SMOLLM2, [DEMO], host(), asked, measured=known)
    assert refused.best is None
    again = plan(SMOLLM2, [DEMO], host(), replace(asked, kv_cache_bytes=None), measured=known).best
    assert again is not None
    assert again.kv_cache_bytes is not None
    assert again.max_model_len == 8192
    assert again.kv_tokens == pytest.approx(again.kv_cache_bytes / 23040 / 3, rel=0.01)
    log = f"INFO CPU KV cache size: {again.kv_tokens:,} tokens"
    assert learn(again, log).kv_per_mille == pytest.approx(333, abs=2)
