"""Support snapshot: the kernels that vLLM's own selectors choose, by version, for nodes without an engine.

`engine_probe.py` generated the table: 0.32.0 in its interpreter, the other versions over the sources of their wheels
(`benchmarks/gpu/support.py`). Tests compare the table with both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Answers = Mapping[str, Mapping[str, str]]
"""Weight format → compute capability → kernel. An absent capability is refused."""

CAPABILITIES: Final = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1")


def _row(kernels: str) -> dict[str, str]:
    return dict(zip(CAPABILITIES, kernels.split(), strict=True))


# fmt: off
_0_32: Final[Answers] = {
    #                  7.5     8.0     8.6     8.9     9.0        10.0       10.3       12.0       12.1
    "none":      _row("torch   torch   torch   torch   torch      torch      torch      torch      torch"),
    "fp8":       _row("marlin  marlin  marlin  cutlass cutlass    cutlass    cutlass    cutlass    cutlass"),
    "fp8_block": _row("marlin  marlin  marlin  marlin  flashinfer flashinfer flashinfer flashinfer flashinfer"),
    "int8":      _row("cutlass cutlass cutlass cutlass cutlass    cutlass    cutlass    cutlass    cutlass"),
    "w4a16":     _row("marlin  marlin  marlin  marlin  machete    marlin     marlin     marlin     marlin"),
    "w8a16":     _row("marlin  marlin  marlin  marlin  machete    marlin     marlin     marlin     marlin"),
    "nvfp4":     _row("marlin  marlin  marlin  marlin  humming    flashinfer flashinfer flashinfer flashinfer"),
    "mxfp8":     _row("marlin  marlin  marlin  marlin  humming    flashinfer flashinfer flashinfer flashinfer"),
    "mxfp4":     _row("marlin  marlin  marlin  marlin  triton     flashinfer flashinfer marlin     marlin"),
}
_0_25: Final[Answers] = {
    **_0_32,
    "fp8_block": _row("marlin  marlin  marlin  triton  flashinfer flashinfer flashinfer flashinfer flashinfer"),
    "nvfp4":     _row("marlin  marlin  marlin  marlin  marlin     flashinfer flashinfer flashinfer flashinfer"),
    "mxfp8":     _row("marlin  marlin  marlin  marlin  marlin     flashinfer flashinfer flashinfer flashinfer"),
}
# fmt: on
SNAPSHOTS: Final[Mapping[str, Answers]] = {"0.25.1": _0_25, "0.32.0": _0_32, "0.33.0": _0_32}
