"""How many parameters a packed checkpoint has, and which quantizations vLLM refuses whatever the GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes.checkpoint import CONFIG, Shapes, safetensors, write_checkpoint

from pareta_registry.errors import ArtifactError
from pareta_registry.importers.hf_checkpoint import import_checkpoint
from pareta_registry.importers.quantization import refusal

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
OUT, IN = 256, 512


def packed(bits: int, **more: Any) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", **more}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}


@pytest.mark.parametrize(
    ("quantization", "tensors"),
    [
        (
            GPTQ,
            {
                "l.qweight": ("I32", (IN // 8, OUT)), "l.qzeros": ("I32", (4, OUT // 8)),
                "l.scales": ("F16", (4, OUT)), "l.g_idx": ("I32", (IN,)),
            },
        ),
        (GPTQ | {"bits": 8}, {"l.qweight": ("I32", (IN // 4, OUT)), "l.scales": ("F16", (4, OUT))}),
        (
            AWQ,
            {"l.qweight": ("I32", (IN, OUT // 8)), "l.qzeros": ("I32", (4, OUT // 8)), "l.scales": ("F16", (4, OUT))},
        ),
        (
            packed(4),
            {
                "l.weight_packed": ("I32", (OUT, IN // 8)), "l.weight_scale": ("BF16", (OUT, 4)),
                "l.weight_shape": ("I64", (2,)), "l.weight_zero_point": ("I32", (OUT // 8, 4)),
            },
        ),
        (packed(8), {"l.weight_packed": ("I32", (OUT, IN // 4)), "l.weight_scale": ("BF16", (OUT, 1))}),
        (
            packed(4, type="float"),
            {
                "l.weight_packed": ("U8", (OUT, IN // 2)), "l.weight_scale": ("F8_E4M3", (OUT, IN // 16)),
                "l.weight_global_scale": ("F32", (1,)), "l.input_global_scale": ("F32", (1,)),
            },
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4"},
            {
                "l.weight": ("U8", (OUT, IN // 2)), "l.weight_scale": ("F8_E4M3", (OUT, IN // 16)),
                "l.weight_scale_2": ("F32", ()),
            },
        ),
        (
            {"quant_method": "mxfp4"},
            {
                "e.down_proj_blocks": ("U8", (2, OUT // 2, IN // 32, 16)),
                "e.down_proj_scales": ("U8", (2, OUT // 2, IN // 32)),
            },
        ),
        ({"quant_method": "mxfp4"}, {"l.weight": ("F4", (OUT, IN)), "l.weight_scale": ("F8_E8M0", (OUT, IN // 32))}),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            {"l.weight": ("F8_E4M3", (OUT, IN)), "l.weight_scale_inv": ("F32", (2, 4))},
        ),
        (packed(8, type="int"), {"l.weight": ("I8", (OUT, IN)), "l.weight_scale": ("F32", (OUT, 1))}),
        ({}, {"l.weight": ("BF16", (OUT, IN))}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["quantization_config", "text_config", "compression_config"])
def test_packed_weights_are_counted_one_by_one(
    tmp_path: Path, quantization: Mapping[str, Any], tensors: Shapes, place: str
) -> None:
    """A layer of 512 by 256 has as many parameters in each format; its scales are none, a norm beside it counts."""
    config: dict[str, Any] = CONFIG | {place: quantization}
    if place == "text_config":
        config = {"architectures": ["X"], "text_config": CONFIG | {"quantization_config": quantization}}
    files = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": safetensors({**tensors, "norm.weight": ("F32", (1000,))}),
    }
    document = import_checkpoint(str(write_checkpoint(tmp_path / "in", files)), tmp_path / "out")
    assert document["architecture"]["params_b"] == round((OUT * IN + 1000) / 1e9, 6)


@pytest.mark.parametrize(
    ("quantization", "named"),
    [
        (GPTQ | {"desc_act": True}, "desc_act"),
        (GPTQ | {"desc_act": True, "group_size": 32}, "desc_act"),
        (GPTQ | {"desc_act": True, "group_size": None}, "desc_act"),
        (GPTQ | {"dynamic": {"+:.*mlp.*": {"desc_act": True}}}, "desc_act"),
        (GPTQ | {"desc_act": True, "group_size": -1, "dynamic": {".*mlp.*": {"group_size": 64}}}, "desc_act"),
        (GPTQ | {"bits": 3}, "3 bits"),
        (GPTQ | {"bits": 2}, "2 bits"),
        (GPTQ | {"dynamic": {".*mlp.*": {"bits": 3}}}, "3 bits"),
        (GPTQ | {"sym": False}, "sym"),
        (GPTQ | {"quant_method": "GPTQ", "bits": 3}, "3 bits"),
        (GPTQ | {"quant_method": "gptq_marlin", "bits": 3}, "3 bits"),
        (AWQ | {"bits": 3}, "3 bits"),
        (AWQ | {"bits": 8}, "8 bits"),
        (packed(4, actorder="group"), "actorder"),
        (packed(4, actorder="dynamic"), "actorder"),
        (packed(4, actorder=True), "actorder"),
    ],
)
def test_what_vllm_refuses_is_refused_at_the_import(
    tmp_path: Path, quantization: Mapping[str, Any], named: str
) -> None:
    """Ordering by activation within groups, and widths without a kernel; the reason names the setting."""
    files = {
        "config.json": json.dumps(CONFIG | {"quantization_config": quantization}).encode(),
        "model.safetensors": safetensors({"l.qweight": ("I32", (1000, 8))}),
    }
    with pytest.raises(ArtifactError, match=named) as caught:
        import_checkpoint(str(write_checkpoint(tmp_path / "in", files)), tmp_path / "out")
    assert caught.value.code == "quantization_refused"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "quantization",
    [
        GPTQ,
        GPTQ | {"bits": 8},
        GPTQ | {"desc_act": True, "group_size": -1},
        GPTQ | {"dynamic": {"-:.*moe.*": {"bits": 3, "desc_act": True}, ".*mlp.*": {"bits": 8}}},
        GPTQ | {"dynamic": None},
        GPTQ | {"dynamic": ["x"]},
        AWQ,
        {"quant_method": "awq", "w_bit": 4},
        packed(4, actorder="weight"),
        packed(4, actorder="static"),
        packed(4, actorder=None),
        {"quant_method": "fp8"},
        {"quant_method": "compressed-tensors", "config_groups": {"x": None, "y": {"weights": None}}},
        {},
    ],
)
def test_what_vllm_reads_is_taken(quantization: Mapping[str, Any]) -> None:
    """One group a channel makes the order irrelevant; modules that stay unquantized have no say."""
    assert refusal(quantization) is None
