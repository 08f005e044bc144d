"""Engine support: maps a GPU to kernels by weight format, activation dtype and KV cache dtype. Pure.

The table comes from vLLM's own kernel selectors (`probe.py`), or from a shipped snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pareta_agent.planning.support.quant import Quant
from pareta_agent.planning.support.support_snapshot import SNAPSHOTS, Answers
from pareta_registry.catalog import Architecture

Capability = tuple[int, int]
Kind = Literal["native", "weight_only"]

_OLDEST: Final[Capability] = (7, 5)
_WEIGHT_ONLY_KERNELS: Final = frozenset({"marlin", "machete", "humming"})
_REFUSES_FLOAT16: Final = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4"})
_REFUSES_FLOAT16_BY_CLASS: Final = ("Gemma2For", "Gemma3For", "Glm4For")
_FLASHINFER_HEADS: Final = frozenset({64, 128, 256})
_NO_INT8_FROM: Final[Capability] = (10, 0)  # csrc/quantization/w8a8/cutlass/c3x/scaled_mm_helper.hpp
_TRITON_FP8_FROM: Final[Capability] = (8, 9)


@dataclass(frozen=True, slots=True)
class Support:
    """The kernels of one engine version."""

    version: str
    kernels: Answers

    def kernel(self, quant: Quant, capability: Capability) -> str | None:
        """The kernel for these weights on such a GPU, or None.

        A capability that is newer than the table counts as the newest of its family.
        """
        answers = self.kernels.get(quant.format, {})
        known = [(_parse(text), name) for text, name in answers.items()]
        family = [entry for entry in known if entry[0][0] == capability[0] and entry[0] <= capability]
        return max(family)[1] if family else None


def snapshot(version: str | None = None) -> Support:
    """The shipped table of this version, or of the newest version in the snapshot."""
    newest = max(SNAPSHOTS, key=lambda text: tuple(int(part) for part in text.split(".")))
    found = newest if version is None or version not in SNAPSHOTS else version
    return Support(found, SNAPSHOTS[found])


def kind(kernel: str) -> Kind:
    """The kind of a kernel. Weight-only kernels unpack to 16 bits: they save memory and no arithmetic."""
    return "weight_only" if kernel in _WEIGHT_ONLY_KERNELS else "native"


def activation_dtype(arch: Architecture, capability: Capability) -> str:
    """The dtype that `--dtype auto` selects (config/model.py, _resolve_auto_dtype)."""
    supported = ["bfloat16", "float16", "float32"] if capability >= (8, 0) else ["float16", "float32"]
    if refuses_float16(arch):
        supported.remove("float16")
    wanted = supported[0] if arch.dtype == "float32" else arch.dtype
    return wanted if wanted in supported else supported[0]


def refuses_float16(arch: Architecture) -> bool:
    """True if the model overflows in float16 (config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS)."""
    if arch.model_type is not None:
        return arch.model_type in _REFUSES_FLOAT16
    return arch.architecture.startswith(_REFUSES_FLOAT16_BY_CLASS)


def unsupported(support: Support, arch: Architecture, quant: Quant, capability: Capability) -> str | None:
    """The reason against these weights on such a GPU, or None."""
    here = f"compute capability {capability[0]}.{capability[1]}"
    if capability < _OLDEST:
        return f"{here} is older than the {_OLDEST[0]}.{_OLDEST[1]} that the engine is built for"
    if quant.format == "gone":
        return "the engine no longer reads bitsandbytes and GGUF weights"
    if quant.format == "odd_bits":
        return "GPTQ and AWQ weights have kernels for 4 and 8 bits only"
    if quant.format == "unknown":
        return "the catalog's quantization is unknown"
    if quant.desc_act and quant.group is not None:
        return "GPTQ with desc_act and groups has no kernel"
    if quant.format == "int8" and capability >= _NO_INT8_FROM:
        return f"{here} has no int8 multiply in the engine's CUTLASS build, although vLLM's selector chooses int8"
    if support.kernel(quant, capability) is None:
        return f"vLLM {support.version} has no {quant.format} kernel for {here}"
    dtype = activation_dtype(arch, capability)
    if quant.format != "none" and dtype == "float32":
        return f"{here} leaves only float32 for this model, which {quant.format} weights refuse"
    if quant.format == "mxfp4" and dtype != "bfloat16":
        return "mxfp4 needs bfloat16"
    return None


def kv_fp8(arch: Architecture, capability: Capability) -> bool:
    """True if an attention backend supports an fp8 cache on such a GPU. MLA has a separate format.

    - FlashAttention 3/4: 9.0, 10.x.
    - FlashInfer: 8.0 to 12.1, head sizes of `_FLASHINFER_HEADS`.
    - Triton: from 8.9, any head size, with attention sinks.
    """
    if arch.kv_lora_rank is not None:
        return capability >= (9, 0)
    if capability >= _TRITON_FP8_FROM:
        return True
    return capability >= (8, 0) and arch.head_dim in _FLASHINFER_HEADS and not arch.attention_sinks


def uses_flashinfer(arch: Architecture, capability: Capability, kv_dtype: str) -> bool:
    """True if the attention backend is FlashInfer, with a workspace in the footprint.

    FlashInfer is the first choice on 10.x. Elsewhere vLLM selects FlashInfer if FlashAttention cannot run: an fp8 cache
    except on 9.0, and sinks on 12.x.
    """
    if arch.kv_lora_rank is not None or arch.head_dim not in _FLASHINFER_HEADS:
        return False
    if arch.attention_sinks:
        return capability >= (10, 0)
    return capability[0] == 10 or (kv_dtype == "fp8" and capability >= (8, 0) and capability[0] != 9)


def _parse(text: str) -> Capability:
    major, minor = text.split(".")
    return int(major), int(minor)
