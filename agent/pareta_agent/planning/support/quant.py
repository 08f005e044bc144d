"""Weight format: parses a variant's `quant` into a number format and a group size.

The names are the catalog's (`none`, `fp8-block128`, `awq-int4-g128`, `mxfp4-moe` …). An unknown name has the format
`unknown`: its plan is refused, not guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Format = Literal[
    "none",
    "fp8",
    "fp8_block",
    "mxfp8",
    "int8",
    "w8a16",
    "w4a16",
    "nvfp4",
    "mxfp4",
    "gone",
    "odd_bits",
    "unknown",
]

_UNQUANTIZED: Final = frozenset({"none", "", "bf16", "bfloat16", "fp16", "float16", "fp32", "float32"})
_RULES: Final[tuple[tuple[str, Format], ...]] = (
    (r"bitsandbytes|bnb|gguf", "gone"),
    (r"mxfp4", "mxfp4"),
    (r"mxfp8", "mxfp8"),
    (r"nvfp4|w4a4", "nvfp4"),
    (r"(?:gptq|awq).*(?:int|w|-)[2357](?:-?bit|a16)?(?![0-9])", "odd_bits"),
    (r"fp8.*block|block.*fp8", "fp8_block"),
    (r"w8a16|(gptq|awq).*int8", "w8a16"),
    (r"fp8", "fp8"),
    (r"int8|w8a8", "int8"),
    (r"awq|gptq|w4a16|int4", "w4a16"),
)
_BITS: Final[dict[Format, int]] = {
    "none": 16, "fp8": 8, "fp8_block": 8, "mxfp8": 8, "int8": 8, "w8a16": 8, "w4a16": 4, "nvfp4": 4, "mxfp4": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quant:
    """`group` is the number of weights that share a scale along the input dimension; None: a scale per channel."""

    format: Format
    group: int | None = None
    experts_only: bool = False
    desc_act: bool = False

    @property
    def bits(self) -> int:
        """Bits of one weight; 16 for an unknown format."""
        return _BITS.get(self.format, 16)


def parse_quant(text: str) -> Quant:
    """Parses the catalog's `quant`."""
    name = text.lower()
    if name in _UNQUANTIZED:
        return Quant("none")
    found: Format = next((form for pattern, form in _RULES if re.search(pattern, name)), "unknown")
    group = re.search(r"(?:-g|group-?)(\d+)", name)
    return Quant(found, int(group[1]) if group else None, name.endswith("-moe"), "desc" in name)
