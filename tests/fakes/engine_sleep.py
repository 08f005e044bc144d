"""The fake engine's sleep, and the memory that it has on the stub driver's GPUs: held while it lives, less asleep."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

GIB = 1 << 30
ROUTES = ("/sleep", "/wake_up", "/is_sleeping")


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--enable-sleep-mode", action="store_true")
    p.add_argument("--gpu-bytes", type=int, default=0, help="what it has of each of its GPUs while awake")
    p.add_argument("--sleep-fails", action="store_true", help="500 to /sleep")
    p.add_argument("--wake-fails", action="store_true", help="500 to /wake_up")
    p.add_argument("--wake-hangs", action="store_true", help="no answer to /wake_up")
    p.add_argument("--wake-garbles", action="store_true", help="wrong text after /wake_up")


def is_open() -> bool:
    """Whether it has the routes: vLLM opens them to developers only."""
    return os.environ.get("VLLM_SERVER_DEV_MODE") == "1"


def change(path: str, query: str, flags: argparse.Namespace) -> tuple[int, dict[str, Any]] | None:
    """Status and body, None for silence."""
    if path == "/is_sleeping":
        return 200, {"is_sleeping": flags.asleep}
    if path == "/sleep":
        unable = "CUDA_VISIBLE_DEVICES" in os.environ and not flags.enable_sleep_mode
        if unable or flags.sleep_fails or query != "level=1":
            return 500, {"detail": "asked to fail"}
        flags.asleep = True
        hold(flags)
        return 200, {"status": "sleeping", "level": 1}
    if flags.wake_hangs:
        return None
    if flags.wake_fails:
        return 500, {"detail": "CUDA out of memory"}
    flags.asleep, flags.wrong_text = False, flags.wrong_text or flags.wake_garbles
    hold(flags)
    return 200, {"status": "awake", "tags": None}


def hold(flags: argparse.Namespace) -> None:
    """Tells the stub driver what this process has by now of each GPU that it sees."""
    if not flags.gpu_bytes or "NVML_STUB" not in os.environ:
        return
    kept = GIB if flags.asleep else flags.gpu_bytes
    with Path(f"{os.environ['NVML_STUB']}.held").open("a") as file:
        for uuid in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
            file.write(f"held {os.getpid()} {uuid} {kept}\n")
