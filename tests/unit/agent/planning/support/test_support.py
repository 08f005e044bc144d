"""What runs where, by the shipped table and the engine's own rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planner_values import DEEPSEEK_V3, GPT_OSS_20B, LLAMA_8B

from pareta_agent.planning.support.quant import parse_quant
from pareta_agent.planning.support.support import (
    activation_dtype,
    kind,
    kv_fp8,
    snapshot,
    unsupported,
    uses_flashinfer,
)

GEMMA3 = LLAMA_8B.model_copy(
    update={"architecture": "Gemma3ForConditionalGeneration", "model_type": "gemma3"}
)
TABLE = snapshot()
ASKED = json.loads((Path(__file__).parents[4] / "data" / "vllm_support.json").read_text())


@pytest.mark.parametrize(
    ("quant", "capability", "expected"),
    [
        ("fp8", (8, 6), "weight_only"),
        ("fp8", (8, 9), "native"),
        ("fp8-block128", (8, 9), "weight_only"),
        ("fp8-block128", (9, 0), "native"),
        ("int8-w8a8", (8, 0), "native"),
        ("awq-int4-g128", (9, 0), "weight_only"),
        ("nvfp4", (9, 0), "weight_only"),
        ("nvfp4", (12, 0), "native"),
        ("mxfp4-moe", (8, 0), "weight_only"),
    ],
)
def test_native_or_unpacked(quant: str, capability: tuple[int, int], expected: str) -> None:
    """Whether a GPU multiplies in the format, or only stores it."""
    kernel = TABLE.kernel(parse_quant(quant), capability)
    assert kernel is not None
    assert kind(kernel) == expected


@pytest.mark.parametrize(
    ("quant", "capability", "said"),
    [
        ("none", (7, 0), "compute capability 7.0 is older than the 7.5"),
        ("gguf-q4", (9, 0), "no longer reads"),
        ("sparse-wonder", (9, 0), "is unknown"),
        ("gptq-int4-g128-desc", (9, 0), "desc_act and groups"),
        ("gptq-int3-g128", (9, 0), "4 and 8 bits only"),
        ("int8-w8a8", (12, 0), "no int8 multiply"),
        ("mxfp4-moe", (7, 5), "mxfp4 needs bfloat16"),
    ],
)
def test_what_never_starts(quant: str, capability: tuple[int, int], said: str) -> None:
    """Each refusal names its reason."""
    reason = unsupported(TABLE, LLAMA_8B, parse_quant(quant), capability)
    assert reason is not None
    assert said in reason


def test_a_newer_chip_of_a_known_family_is_its_newest() -> None:
    """GB10's 12.1 and a later 12.x are planned as the family's newest; a new family is refused."""
    quant = parse_quant("nvfp4")
    assert TABLE.kernel(quant, (12, 5)) == TABLE.kernel(quant, (12, 1))
    assert TABLE.kernel(quant, (13, 0)) is None


def test_gemma_on_a_t4_has_no_dtype_left() -> None:
    """No bfloat16 there, no float16 for the model, no float32 for AWQ; plain weights may take float32."""
    assert activation_dtype(GEMMA3, (7, 5)) == "float32"
    assert "leaves only float32" in str(unsupported(TABLE, GEMMA3, parse_quant("awq-int4-g128"), (7, 5)))
    assert unsupported(TABLE, GEMMA3, parse_quant("none"), (7, 5)) is None


def test_a_class_name_tells_gemma_where_the_model_type_is_unknown() -> None:
    """Catalogs from before `model_type` plan the same."""
    assert activation_dtype(GEMMA3.model_copy(update={"model_type": None}), (7, 5)) == "float32"


def test_half_precision_replaces_bfloat16_before_ampere() -> None:
    """And stays bfloat16 from 8.0 on."""
    assert [activation_dtype(LLAMA_8B, cc) for cc in ((7, 5), (8, 0))] == ["float16", "bfloat16"]


def test_where_the_cache_may_be_fp8() -> None:
    """Not on Turing; with sinks from 8.9; MLA from Hopper on."""
    assert [kv_fp8(LLAMA_8B, cc) for cc in ((7, 5), (8, 0), (12, 0))] == [False, True, True]
    assert [kv_fp8(GPT_OSS_20B, cc) for cc in ((8, 0), (8, 9))] == [False, True]
    assert [kv_fp8(DEEPSEEK_V3, cc) for cc in ((8, 0), (9, 0))] == [False, True]


def test_flashinfer_is_the_backend_of_blackwell_and_of_fp8_cache_before_hopper() -> None:
    """Its workspace counts only there."""
    asked = [((9, 0), "fp8"), ((10, 0), "auto"), ((8, 9), "fp8"), ((8, 9), "auto")]
    assert [uses_flashinfer(LLAMA_8B, cc, kv) for cc, kv in asked] == [False, True, True, False]


def test_an_unknown_version_is_planned_with_the_newest_table() -> None:
    """Until its own selectors are asked."""
    assert snapshot("0.99.0") == snapshot(None)


@pytest.mark.parametrize("version", ["0.25.1", "0.33.0"])
def test_snapshots_are_what_the_wheels_selectors_answered(version: str) -> None:
    """Read from the releases' own sources; the installed one is asked by the engine's tests."""
    table = snapshot(version)
    assert table.version == version
    assert {form: dict(row) for form, row in table.kernels.items()} == ASKED[version]["kernels"]
