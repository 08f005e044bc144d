"""GPU speed: maps a GPU to memory bandwidth and dense tensor throughput, from NVIDIA's data sheets.

The planner uses only ratios, to rank layouts. An unknown name has the numbers of its compute capability's typical GPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final


@dataclass(frozen=True, slots=True)
class Device:
    """Per second: bytes read from memory, and dense bf16 (fp16 before 8.0) operations with fp32 sums.

    `fp8` and `fp4` are the speed-up of native tensor cores over bf16; 1 without such cores. `link_bytes` is one
    direction of all NVLinks together.
    """

    memory_bytes: float
    bf16_flops: float
    fp8: float = 1.0
    fp4: float = 1.0
    link_bytes: float = 0.0


_BY_NAME: Final[tuple[tuple[str, Device], ...]] = (
    (r"B300|GB300", Device(8.0e12, 2.25e15, 2, 6, 900e9)),
    (r"B200|GB200", Device(7.7e12, 2.25e15, 2, 4, 900e9)),
    (r"B100", Device(8.0e12, 1.75e15, 2, 4, 900e9)),
    (r"H200|GH200", Device(4.8e12, 9.9e14, 2, 2, 450e9)),
    (r"H20\b", Device(4.0e12, 1.48e14, 2, 2, 450e9)),
    (r"H100 PCIe", Device(2.0e12, 7.56e14, 2, 2, 300e9)),
    (r"H100 NVL", Device(3.9e12, 8.35e14, 2, 2, 300e9)),
    (r"H100|H800", Device(3.35e12, 9.9e14, 2, 2, 450e9)),
    (r"A100.*40GB", Device(1.55e12, 3.12e14, 1, 1, 300e9)),
    (r"A100|A800", Device(2.0e12, 3.12e14, 1, 1, 300e9)),
    (r"A30\b", Device(9.33e11, 1.65e14, 1, 1, 100e9)),
    (r"A40\b|RTX A6000", Device(7.0e11, 1.5e14, 1, 1, 56e9)),
    (r"A10G?\b", Device(6.0e11, 7.0e13)),
    (r"L40S", Device(8.64e11, 3.62e14, 2, 2)),
    (r"L40\b|L20\b|RTX 6000 Ada", Device(8.64e11, 1.81e14, 2, 2)),
    (r"L4\b", Device(3.0e11, 1.21e14, 2, 2)),
    (r"RTX PRO 6000", Device(1.79e12, 5.0e14, 2, 4)),
    (r"RTX 5090", Device(1.79e12, 2.1e14, 2, 8)),
    (r"RTX 50", Device(9.6e11, 1.1e14, 2, 8)),
    (r"RTX 4090", Device(1.01e12, 1.65e14, 2, 2)),
    (r"RTX 40", Device(7.2e11, 9.0e13, 2, 2)),
    (r"RTX 3090", Device(9.36e11, 7.1e13, 1, 1, 56e9)),
    (r"GB10", Device(2.73e11, 1.25e14, 2, 4)),
    (r"T4\b", Device(3.2e11, 5.0e13)),
)
_BY_CAPABILITY: Final[tuple[tuple[tuple[int, int], Device], ...]] = (
    ((12, 0), Device(9.6e11, 1.1e14, 2, 4)),
    ((10, 0), Device(7.7e12, 2.25e15, 2, 4, 900e9)),
    ((9, 0), Device(3.35e12, 9.9e14, 2, 2, 450e9)),
    ((8, 9), Device(5.0e11, 1.2e14, 2, 2)),
    ((8, 6), Device(6.0e11, 7.0e13, 1, 1, 56e9)),
    ((8, 0), Device(1.55e12, 3.12e14, 1, 1, 300e9)),
    ((0, 0), Device(3.0e11, 5.0e13)),
)


@cache
def device(name: str | None, capability: tuple[int, int]) -> Device:
    """The data sheet's numbers of a GPU by name, else of the typical GPU of its compute capability."""
    for pattern, found in _BY_NAME:
        if name is not None and re.search(pattern, name):
            return found
    return next(found for least, found in _BY_CAPABILITY if capability >= least)
