"""A catalog's quantization names, read."""

from __future__ import annotations

import pytest

from pareta_agent.planning.support.quant import Quant, parse_quant


@pytest.mark.parametrize(
    ("text", "quant"),
    [
        ("none", Quant("none")),
        ("bfloat16", Quant("none")),
        ("fp8-w8a8", Quant("fp8")),
        ("fp8", Quant("fp8")),
        ("fp8-block128", Quant("fp8_block")),
        ("awq-int4-g128", Quant("w4a16", 128)),
        ("gptq-int4-g128", Quant("w4a16", 128)),
        ("compressed-tensors-w4a16-g32", Quant("w4a16", 32)),
        ("gptq-int8-g128", Quant("w8a16", 128)),
        ("int8-w8a8", Quant("int8")),
        ("nvfp4", Quant("nvfp4")),
        ("mxfp4-moe", Quant("mxfp4", experts_only=True)),
        ("mxfp8", Quant("mxfp8")),
        ("bitsandbytes-nf4", Quant("gone")),
        ("gguf-q4_k_m", Quant("gone")),
        ("gptq-int4-g128-desc", Quant("w4a16", 128, desc_act=True)),
        ("sparse-wonder", Quant("unknown")),
        ("gptq-int3-g128", Quant("odd_bits", 128)),
        ("gptq-3bit", Quant("odd_bits")),
        ("awq-w3a16", Quant("odd_bits")),
    ],
)
def test_quantization_names(text: str, quant: Quant) -> None:
    """Each published name has one format, with its group where it has groups."""
    assert parse_quant(text) == quant


def test_bits_of_a_format() -> None:
    """Four, eight, or sixteen where nothing better is known."""
    assert [parse_quant(text).bits for text in ("nvfp4", "fp8", "none", "sparse-wonder")] == [4, 8, 16, 16]
