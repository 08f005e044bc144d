"""Processor: reads the model and the instruction sets that decide which kernels an engine on this CPU gets."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")
_MODEL_KEYS: Final = ("model name", "cpu model", "CPU implementer")
_FLAG_KEYS: Final = ("flags", "Features")
_DECISIVE: Final = ("avx2", "avx512", "amx_", "avx_vnni", "asimd", "bf16", "i8mm", "sve", "vx")
"""Prefixes of the flags by which vLLM and oneDNN select CPU kernels (x86-64, Arm, s390x)."""


@dataclass(frozen=True, slots=True)
class Processor:
    """`instruction_sets`: the kernel's own names, sorted; only the sets that select compute kernels."""

    model: str
    instruction_sets: tuple[str, ...]

    @property
    def key(self) -> str:
        """One line that is equal for processors with the same kernels."""
        return f"{self.model}|{','.join(self.instruction_sets)}"


def read_processor(cpuinfo: Path = CPUINFO) -> Processor:
    """The first processor of the file; the architecture alone without a usable entry."""
    try:
        lines = cpuinfo.read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    model = next((fields[key] for key in _MODEL_KEYS if key in fields), platform.machine())
    flags = next((fields[key].split() for key in _FLAG_KEYS if key in fields), [])
    return Processor(model, tuple(sorted(flag for flag in flags if flag.startswith(_DECISIVE))))
