"""A process that fetches one artifact and may die on the way: `fetcher.py ROOT SOURCE DIGEST [DIE_AT]`.

DIE_AT counts the steps that touch the file system (audit events): at that one the process kills itself with
SIGKILL. Prints the number of steps that it took.
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


def main() -> None:
    root, source, digest = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    die_at = int(sys.argv[4]) if len(sys.argv) > 4 else -1
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
    store = WeightsStore(settings)
    sys.addaudithook(on_event)
    asyncio.run(store.fetch(variant, lambda _: None))
    sys.stdout.write(f"{taken}\n")


if __name__ == "__main__":
    main()
