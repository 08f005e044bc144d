"""Processes that fetch one artifact and may die on the way, forked from one that has everything imported.

For each line `ROOT SOURCE DIGEST DIE_AT` on stdin a child fetches, and `STATUS STEPS` is printed when it ended.
DIE_AT counts the steps that touch the weights (audit events): at that one the child kills itself with SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Variant
from pareta_registry.stores import oci  # noqa: F401  (else every child imports it)

STEPS = {
    "open",
    "os.rename",
    "os.chmod",
    "os.remove",
    "os.mkdir",
    "os.link",
    "fcntl.flock",
    "os.utime",
    "os.listdir",
}


def fetch(root: Path, source: str, digest: str, die_at: int) -> int:
    """Returns the number of steps, if it lives to see the last one."""
    taken = 0

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal taken
        if event in STEPS and (event == "fcntl.flock" or str(arguments[0]).startswith(str(root))):
            taken += 1
            if taken == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    settings = WeightsSettings(
        root / "weights", root / "cache", reserve_bytes=0, part_bytes=65_536, connections=3
    )
    variant = Variant(name="bf16", quant="none", artifact=digest, source=source, weights_bytes=1)
    sys.addaudithook(on_event)
    asyncio.run(WeightsStore(settings).fetch(variant, lambda _: None))
    return taken


def main() -> None:
    for line in sys.stdin:
        root, source, digest, die_at = line.split()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, str(fetch(Path(root), source, digest, int(die_at))).encode())
            os._exit(0)
        os.close(writer)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        steps = int(os.read(reader, 20) or b"0")
        os.close(reader)
        sys.stdout.write(f"{status} {steps}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
