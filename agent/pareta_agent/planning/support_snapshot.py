"""What vLLM's own selectors answered, by version, for nodes where no engine is installed yet."""

from __future__ import annotations

from typing import Final

Answers = dict[str, dict[str, str]]
"""Per weight format, the kernel that each compute capability gets; a capability that is absent is refused."""

SNAPSHOTS: Final[dict[str, Answers]] = {
    "0.32.0": {
        "none": dict.fromkeys(["7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1"], "torch"),
        "fp8": {
            **dict.fromkeys(["7.5", "8.0", "8.6"], "marlin"),
            **dict.fromkeys(["8.9", "9.0", "10.0", "10.3", "12.0", "12.1"], "cutlass"),
        },
        "fp8_block": {
            **dict.fromkeys(["7.5", "8.0", "8.6", "8.9"], "marlin"),
            **dict.fromkeys(["9.0", "10.0", "10.3"], "deep_gemm"),
            **dict.fromkeys(["12.0", "12.1"], "cutlass"),
        },
        "mxfp8": {
            **dict.fromkeys(["8.0", "8.6", "8.9", "9.0"], "marlin"),
            **dict.fromkeys(["10.0", "10.3", "12.0", "12.1"], "flashinfer"),
        },
        "int8": dict.fromkeys(["7.5", "8.0", "8.6", "8.9", "9.0"], "cutlass")
        | dict.fromkeys(["10.0", "10.3", "12.0", "12.1"], "triton"),
        "w8a16": dict.fromkeys(["7.5", "8.0", "8.6", "8.9", "10.0", "10.3", "12.0", "12.1"], "marlin")
        | {"9.0": "machete"},
        "w4a16": dict.fromkeys(["7.5", "8.0", "8.6", "8.9", "10.0", "10.3", "12.0", "12.1"], "marlin")
        | {"9.0": "machete"},
        "nvfp4": dict.fromkeys(["7.5", "8.0", "8.6", "8.9"], "marlin")
        | {"9.0": "humming"}
        | dict.fromkeys(["10.0", "10.3", "12.0", "12.1"], "flashinfer"),
        "mxfp4": dict.fromkeys(["8.0", "8.6", "8.9", "12.0", "12.1"], "marlin")
        | {"9.0": "triton"}
        | dict.fromkeys(["10.0", "10.3"], "flashinfer"),
    },
}
