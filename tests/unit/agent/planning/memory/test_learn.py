"""A start that worked teaches the next plan; what healed it is remembered."""

from __future__ import annotations

from dataclasses import replace

from planner_values import LLAMA_8B, gpus, node, variant

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.choose import plan
from pareta_agent.planning.memory.footprint import Caps
from pareta_agent.planning.memory.learn import key_of, learn, remember
from pareta_agent.planning.memory.measured import Measured, from_json, to_json
from pareta_agent.planning.request import PlanRequest

ONE = variant()
NODE = node(gpus(1))
NAME = "NVIDIA H100 80GB HBM3"
PLAN = plan(LLAMA_8B, [ONE], NODE, PlanRequest()).candidates[0].plan
LOG = """
INFO Model loading took 15.99 GiB memory and 4.2 seconds
INFO Available KV cache memory: 50.00 GiB
INFO GPU KV cache size: 409,600 tokens, Maximum concurrency for 131,072 tokens per request: 3.12x
"""


def test_numbers_of_a_log() -> None:
    """Weights as logged; the rest of the claimed memory is everything else."""
    numbers = learn(PLAN, LOG)
    budget = int(79.1 * GIB * 0.92)
    assert numbers.weights_bytes == int(15.99 * GIB)
    assert numbers.other_bytes is not None
    assert abs(numbers.other_bytes - (budget - int(15.99 * GIB) - 50 * GIB)) < 8 << 20
    assert numbers.kv_per_mille == 1000


def test_a_silent_log_teaches_nothing() -> None:
    """Unknown stays None."""
    numbers = learn(PLAN, "INFO nothing to see")
    assert (numbers.weights_bytes, numbers.other_bytes, numbers.kv_per_mille) == (None, None, None)


def test_the_next_plan_is_what_the_engine_said() -> None:
    """After one start the cache is predicted to the log's rounding."""
    known = Measured().learned(key_of(PLAN, ONE.artifact, NAME), learn(PLAN, LOG))
    corrected = plan(LLAMA_8B, [ONE], NODE, PlanRequest(), measured=known).best
    assert corrected is not None
    assert abs(corrected.footprint.kv_bytes - 50 * GIB) < 16 << 20


def test_what_was_learned_stays_true_at_the_next_start() -> None:
    """The same log under the corrected plan teaches the same numbers, also where the cache holds half."""
    log = LOG.replace("409,600", "204,800")
    first = learn(PLAN, log)
    known = Measured().learned(key_of(PLAN, ONE.artifact, NAME), first)
    corrected = plan(LLAMA_8B, [ONE], NODE, PlanRequest(), measured=known).best
    assert corrected is not None
    again = learn(corrected, log)
    assert first.other_bytes is not None
    assert again.other_bytes is not None
    assert abs(again.other_bytes - first.other_bytes) < 8 << 20
    assert (first.kv_per_mille, again.kv_per_mille) == (500, 500)


def test_a_measured_rest_bounds_only_smaller_steps() -> None:
    """A larger batch may hold more than was seen."""
    numbers = learn(replace(PLAN, max_num_batched_tokens=2048, max_num_seqs=64), LOG)
    assert numbers.other_within(Caps(2048, 64)) == numbers.other_bytes
    assert numbers.other_within(Caps(4096, 64)) is None


def test_graphs_that_failed_are_not_captured_again() -> None:
    """Eager was what worked."""
    known = remember(Measured(), PLAN, replace(PLAN, enforce_eager=True), ONE.artifact, NAME)
    again = plan(LLAMA_8B, [ONE], NODE, PlanRequest(), measured=known).best
    assert again is not None
    assert again.enforce_eager


def test_caps_that_worked_are_the_next_ones() -> None:
    """A step that ran out of memory is not planned again."""
    worked = replace(PLAN, max_num_batched_tokens=2048, max_num_seqs=64)
    known = remember(Measured(), PLAN, worked, ONE.artifact, NAME)
    again = plan(LLAMA_8B, [ONE], NODE, PlanRequest(), measured=known).best
    assert again is not None
    assert (again.max_num_batched_tokens, again.max_num_seqs) == (2048, 64)


def test_a_cache_dtype_without_backend_is_given_up() -> None:
    """fp8 failed with and without graphs alike."""
    failed = replace(PLAN, kv_cache_dtype="fp8")
    known = remember(Measured(), failed, PLAN, ONE.artifact, NAME)
    report = plan(LLAMA_8B, [ONE], NODE, PlanRequest(settings={"kv_cache_dtype": "fp8"}), measured=known)
    assert report.best is None
    assert report.rejections[0].reason == "an earlier start of this candidate failed on this node"


def test_a_shorter_context_is_not_remembered_as_such() -> None:
    """The measured bytes say it better."""
    assert remember(Measured(), PLAN, replace(PLAN, max_model_len=4096), ONE.artifact, NAME) == Measured()


def test_records_survive_the_file() -> None:
    """JSON there and back, for one engine version."""
    known = Measured("0.32.0").learned(key_of(PLAN, ONE.artifact, NAME), learn(PLAN, LOG))
    known = known.blacklisted(ONE.artifact, (7, 5)).avoiding(key_of(PLAN, ONE.artifact, NAME))
    known = known.capped(key_of(PLAN, ONE.artifact, NAME), Caps(2048, 64))
    assert from_json(to_json(known)) == known
    assert known.refused(ONE.artifact, (7, 5))
    assert not Measured("0.33.0", refusals=known.refusals).refused(ONE.artifact, (7, 5))
