"""Quantization: reads the packing of weights from config.json, and names the packings that vLLM refuses. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pareta_registry.importers.safetensors import DTYPE_BITS, TensorInfo

_METHOD_ALIASES = {"gptq_marlin": "gptq", "auto_gptq": "gptq", "awq_marlin": "awq", "auto_awq": "awq"}
_GPTQ_BITS = (4, 8)
_AWQ_BITS = 4
_DEFAULT_BITS = 4
_INT32 = ("I32", "U32")
_PACKED = re.compile(r"(^|_)(qweight|packed|blocks)$")
_BESIDE = re.compile(r"(^|_)(scales?|scale_inv|scale_2|zero_points?|qzeros|g_idx|weight_shape)$")


def quantization_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The quantization part, at the places that vLLM reads; empty for an unquantized checkpoint."""
    text = config.get("text_config")
    places = (
        config.get("quantization_config"),
        text.get("quantization_config") if isinstance(text, Mapping) else None,
        config.get("compression_config"),
    )
    return next((found for found in places if isinstance(found, Mapping) and found), {})


def method_of(quantization: Mapping[str, Any]) -> str | None:
    """The method's name in lower case, None for an unquantized checkpoint."""
    method = quantization.get("quant_method")
    return str(method).lower() if method else None


def parameter_count(tensors: Iterable[TensorInfo], quantization: Mapping[str, Any]) -> int:
    """The model's parameters: each packed value counts; scales and zero points do not."""
    if not quantization:
        return sum(tensor.elements for tensor in tensors)
    bits = _bits(quantization)
    return sum(_values(tensor, bits) for tensor in tensors)


def refusal(quantization: Mapping[str, Any]) -> str | None:
    """The reason for which vLLM refuses the weights on every GPU; None for weights that vLLM may load.

    Sources: auto_gptq.py, auto_awq.py and compressed_tensors.py of vLLM 0.32.
    """
    method = method_of(quantization) or ""
    match _METHOD_ALIASES.get(method, method):
        case "gptq":
            return _gptq(quantization)
        case "awq" if _bits(quantization) != _AWQ_BITS:
            return f"AWQ weights have {_bits(quantization)} bits, vLLM reads {_AWQ_BITS} bits"
        case "compressed-tensors":
            ordered = [
                w for w in _group_weights(quantization) if w.get("actorder") in ("group", "dynamic", True)
            ]
            return "its weights are ordered by activation (actorder) within groups" if ordered else None
    return None


def _gptq(quantization: Mapping[str, Any]) -> str | None:
    """`dynamic` holds settings of single modules; a rule with the prefix `-:` leaves a module unquantized."""
    dynamic = quantization.get("dynamic")
    rules = dynamic.items() if isinstance(dynamic, Mapping) else ()
    own = [rule for name, rule in rules if isinstance(rule, Mapping) and not name.startswith("-:")]
    for settings in (quantization, *({**quantization, **rule} for rule in own)):
        if settings.get("desc_act") and settings.get("group_size") != -1:
            return "its GPTQ weights are ordered by activation (desc_act) within groups"
        if _bits(settings) not in _GPTQ_BITS:
            return f"its GPTQ weights have {_bits(settings)} bits, vLLM reads 4 and 8 bits"
    if quantization.get("sym") is False:
        return "its GPTQ weights are asymmetric (sym: false)"
    return None


def _bits(quantization: Mapping[str, Any]) -> int:
    """Bits of a packed value; with several groups, of the first."""
    named = [quantization.get("bits"), quantization.get("w_bit")]
    named += [weights.get("num_bits") for weights in _group_weights(quantization)]
    return next((bits for bits in named if isinstance(bits, int) and bits > 0), _DEFAULT_BITS)


def _group_weights(quantization: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    groups = quantization.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            yield weights


def _values(tensor: TensorInfo, bits: int) -> int:
    name = tensor.name.rpartition(".")[2]
    if _BESIDE.search(name):
        return 0
    packed = _PACKED.search(name) is not None
    if (packed and tensor.dtype in _INT32) or (tensor.dtype == "U8" and (packed or name == "weight")):
        return tensor.elements * DTYPE_BITS[tensor.dtype] // bits
    return tensor.elements
