"""Knobs after a wrong canary: their order, what each turns, and what is remembered of the one that helped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_plans import PLAN as SMALL
from planner_values import LLAMA_8B, SMOLLM2, gpus, host, node, variant

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.choose import plan
from pareta_agent.planning.memory.measured import Measured, from_json, to_json
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.support.numerics import Numerics, WrongKernel, gpu_key, key_of, knobs, turned

PLAN = replace(SMALL, dtype="bfloat16")
CUDA = replace(
    PLAN, platform="cuda", gpus=(("A",),), enforce_eager=False, kernel="cutlass", kv_cache_dtype="fp8"
)
H100 = "NVIDIA H100 80GB HBM3|9.0"
DEMO = variant(gib=269_030_016 / GIB)
AMX = WrongKernel("attention", "amx", "bfloat16", "decode, head size 64", 0.4, 0.03)


def test_on_a_gpu_each_knob_is_tried_alone_the_cheapest_first() -> None:
    """Attention backend, eager mode, weight-only kernels, a 16-bit cache."""
    assert list(knobs(CUDA)) == ["attention=TRITON_ATTN", "eager", "linear=marlin", "kv=auto"]
    plans = [turned(CUDA, knob) for knob in knobs(CUDA)]
    assert all(one is not None and one.workaround for one in plans)
    changes = [
        {
            name
            for name in ("flags", "enforce_eager", "kv_cache_dtype")
            if getattr(one, name) != getattr(CUDA, name)
        }
        for one in plans
    ]
    assert changes == [{"flags"}, {"enforce_eager"}, {"flags"}, {"kv_cache_dtype"}]


@pytest.mark.parametrize(
    ("plan_", "left"),
    [
        (replace(CUDA, flags=("--attention-backend", "FLASHINFER")), ["eager", "linear=marlin", "kv=auto"]),
        (replace(CUDA, enforce_eager=True, kernel="marlin"), ["attention=TRITON_ATTN", "kv=auto"]),
        (replace(CUDA, kv_cache_dtype="auto", kernel=""), ["attention=TRITON_ATTN", "eager"]),
    ],
)
def test_what_is_turned_already_is_no_knob(plan_, left) -> None:  # type: ignore[no-untyped-def]
    """Nor what the catalog decided."""
    assert list(knobs(plan_)) == left


def test_on_a_cpu_the_knob_is_the_dtype() -> None:
    """Of those that have a plan."""
    assert list(knobs(PLAN, frozenset({"float32", "bfloat16"}))) == ["dtype=float32"]
    assert list(knobs(PLAN)) == []


def test_what_helped_is_used_for_every_plan_of_that_computation_and_device() -> None:
    """And for no other one; it survives the file."""
    learned = Measured("0.32.0", numerics=Numerics().remembering(CUDA, "eager", H100))
    kept = from_json(to_json(learned))
    assert kept == learned
    assert kept.numerics.corrected(CUDA, H100).enforce_eager
    assert kept.numerics.corrected(CUDA, "NVIDIA L40S|8.9") == CUDA
    other = replace(CUDA, dtype="float16")
    assert kept.numerics.corrected(other, H100) == other


def test_the_planner_turns_the_knob_that_helped_before() -> None:
    """A plan for the same computation says so."""
    plain = plan(LLAMA_8B, [variant(gib=15.0)], node(gpus(1)), PlanRequest()).best
    assert plain is not None
    device = gpu_key(gpus(1)[0].name, gpus(1)[0].compute_capability)
    numerics = Numerics().remembering(plain, "attention=TRITON_ATTN", device)
    found = plan(
        LLAMA_8B, [variant(gib=15.0)], node(gpus(1)), PlanRequest(), measured=Measured(numerics=numerics)
    ).best
    assert found is not None
    assert found.flags[-2:] == ("--attention-backend", "TRITON_ATTN")
    assert (
        found.workaround == "the default attention backend gives wrong text on this GPU: TRITON_ATTN is used"
    )


def test_weights_whose_kernel_failed_the_check_are_not_planned() -> None:
    """The other variant is."""
    wrong = Measured(numerics=Numerics(wrong=(WrongKernel("linear", "fp8", "bfloat16", "", 0.3, 0.05),)))
    report = plan(
        LLAMA_8B,
        [variant("fp8", "fp8", 8.0), variant(gib=15.0)],
        node(gpus(1)),
        PlanRequest(),
        measured=wrong,
    )
    assert {one.plan.variant for one in report.candidates} == {"bf16"}
    assert any("fp8 kernel gave wrong results here" in one.reason for one in report.rejections)


def test_a_cpu_plan_computes_in_float32_unless_the_catalog_decides() -> None:
    """The same rounding on every processor; the checkpoint's dtype is the runner-up."""
    report = plan(SMOLLM2, [DEMO], host(), PlanRequest())
    assert [one.plan.dtype for one in report.candidates] == ["float32", "bfloat16"]
    asked = plan(SMOLLM2, [DEMO], host(), PlanRequest(settings={"dtype": "bfloat16"}))
    assert [one.plan.dtype for one in asked.candidates] == ["bfloat16", "float32"]
    assert report.best is not None
    assert report.best.workaround is None


def test_a_dtype_that_failed_the_check_is_dropped_before_the_first_start() -> None:
    """Plan and rejection say why, also where the catalog asks for it."""
    measured = Measured(numerics=Numerics(wrong=(AMX,)))
    report = plan(SMOLLM2, [DEMO], host(), PlanRequest(settings={"dtype": "bfloat16"}), measured=measured)
    assert [one.plan.dtype for one in report.candidates] == ["float32"]
    assert report.best is not None
    said = "bfloat16 attention gives wrong text on this processor: float32 is used"
    assert report.best.workaround == said
    assert [one.reason for one in report.rejections] == [
        "bfloat16 attention gives wrong text on this processor"
    ]


def test_a_dtype_that_a_start_proved_wrong_is_dropped_on_that_processor_alone() -> None:
    """The next plan begins with what helped."""
    numerics = Numerics("Xeon|amx").remembering(PLAN, "dtype=float32", "Xeon|amx")
    asked = PlanRequest(settings={"dtype": "bfloat16"})
    here = plan(SMOLLM2, [DEMO], host(), asked, measured=Measured(numerics=numerics)).best
    assert here is not None
    assert (here.dtype, here.workaround) == (
        "float32",
        "bfloat16 gives wrong text on this processor: float32 is used",
    )
    moved = Measured(numerics=replace(numerics, device="EPYC|"))
    there = plan(SMOLLM2, [DEMO], host(), asked, measured=moved).best
    assert there is not None
    assert there.dtype == "bfloat16"


def test_memory_for_float32_alone_decides_nothing_else() -> None:
    """A host that holds the model in 16 bits only serves it so."""
    report = plan(LLAMA_8B, [variant(gib=15.0)], host(32.0, 26.0), PlanRequest())
    assert report.best is not None
    assert report.best.dtype == "bfloat16"


def test_keys_tell_every_part_of_a_computation() -> None:
    """Hardware, dtype, attention, kernel, cache, graphs."""
    others = (
        replace(CUDA, dtype="float16"),
        replace(CUDA, flags=("--attention-backend", "FLASHINFER")),
        replace(CUDA, kernel="marlin"),
        replace(CUDA, kv_cache_dtype="auto"),
        replace(CUDA, enforce_eager=True),
    )
    keys = {key_of(one, H100) for one in (CUDA, *others)} | {key_of(CUDA, "NVIDIA A100|8.0")}
    assert len(keys) == 7


@pytest.mark.parametrize(
    ("backends", "mla", "flags"),
    [
        (("FLASH_ATTN",), False, ("--attention-backend", "TRITON_ATTN")),
        (("FLASH_ATTN",), True, ()),
        (("TRITON_ATTN",), False, ()),
        (("FLASH_ATTN", "TRITON_ATTN"), False, ()),
    ],
)
def test_an_attention_backend_that_failed_the_check_is_replaced_by_one_that_passed(
    backends, mla, flags
) -> None:  # type: ignore[no-untyped-def]
    """Latent attention has backends of its own; where the other one failed too, the canary decides."""
    wrong = tuple(WrongKernel("attention", each, "bfloat16", "decode", 0.4, 0.03) for each in backends)
    assert Numerics(wrong=wrong).corrected(CUDA, H100, mla=mla).flags == flags
    assert Numerics(wrong=wrong).corrected(replace(CUDA, dtype="float16"), H100, mla=mla).flags == ()
