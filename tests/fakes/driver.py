"""An NVIDIA driver for a whole agent: the compiled stub library, told what to say by a file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

STUB = Path(__file__).parent / "nvml" / "stub.c"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
GIB = 1 << 30
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler to build the stub with")


class Driver:
    """The stub's file: what NVML says of some H100s without NVLink, changed under whoever reads it."""

    def __init__(self, folder: Path, gpus: int = 2) -> None:
        self.gpus = gpus
        library = folder / "libnvidia-ml.so.1"
        subprocess.run(
            [str(COMPILER), "-shared", "-fPIC", "-O1", "-o", str(library), str(STUB)], check=True, timeout=60
        )
        self.file = folder / "node.txt"
        self.settings = {"LD_LIBRARY_PATH": str(folder), "NVML_STUB": str(self.file)}
        self.says()

    def says(self, **more: object) -> None:
        """The sound node, with `more` in the stub's words (`1_lost=1` is `1.lost=1`)."""
        facts = {
            f"{index}.{name}": value
            for index in range(self.gpus)
            for name, value in {
                "uuid": f"GPU-{index}",
                "name": "NVIDIA H100 80GB HBM3",
                "capability": "9.0",
                "total": 80 * GIB,
                "reserved": 0,
                "free": 79 * GIB,
                "busy": 40 + index,
                "temperature": 60,
                "power": 350000,
                "ecc_uncorrected": 0,
            }.items()
        }
        facts |= {"driver": "580.95.05", "cuda": 13000}
        facts |= {name.replace("_", ".", 1): value for name, value in more.items()}
        partial = self.file.with_suffix(".partial")
        partial.write_text("".join(f"{name}={value}\n" for name, value in facts.items()))
        partial.replace(self.file)
