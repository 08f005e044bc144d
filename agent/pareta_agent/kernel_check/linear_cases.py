"""Linear cases: plain and quantized weights, through the kernels that vLLM's own layers choose.

Run by `program.py` in the engine's interpreter; never imported by the agent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from case_row import LIMITS, Row, measured, relative

QUANTIZED_LIMIT = 5e-2
"""The limit of a quantized product against dequantized weights: activations are rounded to 8 bits."""
OUT, IN, TOKENS, GROUP = 256, 512, 24, 128
FORMATS: dict[str, dict[str, Any]] = {
    "int8": {"weights": ("int", 8, "channel", None), "inputs": ("int", 8), "format": "int-quantized"},
    "fp8": {"weights": ("float", 8, "channel", None), "inputs": ("float", 8), "format": "float-quantized"},
    "w4a16": {"weights": ("int", 4, "group", GROUP), "inputs": None, "format": "pack-quantized"},
}


def linear_rows(torch: Any, platform: str, dtype: str) -> Iterator[Row]:
    row = Row("linear", "none", dtype, f"{IN} to {OUT}, {TOKENS} tokens", LIMITS[dtype])
    with engine_context(torch):
        yield from measured(row, lambda: plain_error(torch, platform, getattr(torch, dtype)))


def quantized_rows(torch: Any, platform: str, name: str) -> Iterator[Row]:
    row = Row("linear", name, "bfloat16", f"{IN} to {OUT}, {TOKENS} tokens", QUANTIZED_LIMIT)
    with engine_context(torch):
        yield from measured(row, lambda: quantized_error(torch, platform, name))


@contextmanager
def engine_context(torch: Any) -> Iterator[None]:
    """Provides the configuration and the process group of one rank that vLLM's layers read."""
    config = import_module("vllm.config")
    parallel = import_module("vllm.distributed.parallel_state")
    with tempfile.TemporaryDirectory() as folder, config.set_current_vllm_config(config.VllmConfig()):
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        parallel.init_distributed_environment(1, 0, f"file://{folder}/rank", 0, backend)
        parallel.initialize_model_parallel(1, 1)
        yield


def plain_error(torch: Any, device: str, dtype: Any) -> float:
    layer = linear_layer(torch, device, dtype, None)
    weight = torch.randn(OUT, IN).to(device=device, dtype=dtype) / IN**0.5
    layer.weight.data.copy_(weight)
    return product_error(torch, layer, device, dtype, weight.float())


def quantized_error(torch: Any, device: str, name: str) -> float:
    kind, bits, strategy, group = FORMATS[name]["weights"]
    scheme: dict[str, Any] = {
        "targets": ["Linear"],
        "weights": {"num_bits": bits, "type": kind, "symmetric": True, "strategy": strategy, "dynamic": False}
        | ({"group_size": group} if group else {}),
        "input_activations": None,
    }
    if (inputs := FORMATS[name]["inputs"]) is not None:
        scheme["input_activations"] = {
            "num_bits": inputs[1],
            "type": inputs[0],
            "symmetric": True,
            "strategy": "token",
            "dynamic": True,
        }
    document = {
        "quant_method": "compressed-tensors",
        "format": FORMATS[name]["format"],
        "config_groups": {"group_0": scheme},
        "ignore": [],
    }
    module = import_module("vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors")
    layer = linear_layer(torch, device, torch.bfloat16, module.CompressedTensorsConfig.from_config(document))
    return product_error(torch, layer, device, torch.bfloat16, fill(torch, layer, device, bits, kind, group))


def linear_layer(torch: Any, device: str, dtype: Any, quant: Any) -> Any:
    linear = import_module("vllm.model_executor.layers.linear")
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return linear.ReplicatedLinear(
                IN, OUT, bias=False, params_dtype=dtype, quant_config=quant, prefix="check", return_bias=False
            )
    finally:
        torch.set_default_dtype(before)


def fill(torch: Any, layer: Any, device: str, bits: int, kind: str, group: int | None) -> Any:
    """Writes random weights, quantized to nearest, into the layer. Returns the dequantized weights in float32."""
    weight = torch.randn(OUT, IN, device=device) / IN**0.5
    width = group or IN
    grouped = weight.view(OUT, IN // width, width)
    most = 448.0 if kind == "float" else float(2 ** (bits - 1) - 1)
    scales = (grouped.abs().amax(-1, keepdim=True) / most).to(torch.bfloat16).float()
    if kind == "float":
        levels = (grouped / scales).to(torch.float8_e4m3fn)
    else:
        levels = (grouped / scales).round().clamp(-most - 1, most).to(torch.int8)
    parameters = dict(layer.named_parameters())
    if "weight_packed" in parameters:
        codes = (levels.view(OUT, IN).to(torch.int32) + 8) & 15
        packed = torch.zeros(OUT, IN // 8, dtype=torch.int64, device=device)
        for at in range(8):
            packed |= codes[:, at::8].to(torch.int64) << (4 * at)
        parameters["weight_packed"].data.copy_(packed.to(torch.uint32).view(torch.int32))
        parameters["weight_shape"].data.copy_(torch.tensor([OUT, IN]))
    else:
        parameters["weight"].data.copy_(levels.view(OUT, IN))
    parameters["weight_scale"].data.copy_(scales.view(OUT, IN // width))
    return (levels.float() * scales).view(OUT, IN)


def product_error(torch: Any, layer: Any, device: str, dtype: Any, weight: Any) -> float:
    layer.quant_method.process_weights_after_loading(layer)
    x = torch.randn(TOKENS, IN).to(device=device, dtype=dtype)
    with torch.inference_mode():
        return float(relative(layer(x), x.float() @ weight.T))
