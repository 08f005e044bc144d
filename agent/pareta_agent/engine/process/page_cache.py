"""Page cache: reads weights ahead while the engine still imports, so that the load finds all pages in memory.

Engines map weight files and fault pages in singly, which a disk serves more slowly than a long read.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

_PIECE_BYTES = 128 * 2**10
_SUFFIXES = frozenset({".safetensors", ".bin", ".gguf", ".pt"})


async def read_ahead(weights: Path, available_bytes: int | None = None) -> int:
    """Reads all weights into the cache or schedules the reads, and returns the bytes; on cancel, ends within a piece.

    Reads nothing where the weights exceed half of the free or reclaimable memory: the engine needs memory too, and
    the memory of running programs must stay. A file that cannot be read is left to the engine's error report.
    """
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_read_all, weights, available_bytes, stop)
    finally:
        stop.set()


def _read_all(weights: Path, available_bytes: int | None, stop: threading.Event) -> int:
    try:
        found = sorted(path for path in weights.iterdir() if path.suffix in _SUFFIXES)
        free_bytes = _available_bytes() if available_bytes is None else available_bytes
        if sum(path.stat().st_size for path in found) > free_bytes // 2:
            return 0
        return sum(_read(path, stop) for path in found)
    except OSError:
        return 0


def _read(path: Path, stop: threading.Event) -> int:
    """Requests the file piece by piece: cached pieces cost nothing; of a larger piece a kernel may skip the rest."""
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        for offset in range(0, size_bytes, _PIECE_BYTES):
            if stop.is_set():
                return offset
            os.posix_fadvise(file.fileno(), offset, _PIECE_BYTES, os.POSIX_FADV_WILLNEED)
        return size_bytes


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
