"""What the fake engine compiles at its first call with logprobs: in its loop, as vLLM does, and into its cache."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

LIBRARY = b"\x7fELF compiled"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--compile-when",
        type=Path,
        default=None,
        help="logprobs wait for a compiler while this file is there",
    )
    p.add_argument("--compiles", action="store_true", help="logprobs use what is compiled in the cache")


def compile_for(body: bytes, flags: argparse.Namespace) -> None:
    """Blocks the loop while it compiles; ends the process where its cache is damaged."""
    if b'"logprobs"' not in body:
        return
    if flags.compile_when is not None and flags.compile_when.exists():
        compiler = subprocess.Popen(["cc1plus", "3600"], executable="/bin/sleep")
        while flags.compile_when.exists():
            time.sleep(0.02)
        compiler.kill()
        compiler.wait()
    if flags.compiles:
        load(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) / "kernel.so")


def load(library: Path) -> None:
    if not library.exists():
        library.write_bytes(LIBRARY)
    if library.read_bytes() != LIBRARY:
        print(f"ImportError: {library}: file too short", file=sys.stderr, flush=True)
        os._exit(1)
