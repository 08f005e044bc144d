"""An engine that is a fork bomb: its children fork, leave the group, and fork on while they are being killed."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine_room import FAKE, room, settings, spec

from enginelab.remains import Remains, home_left
from pareta_agent.engine.process.engine_process import marked

SIZE = 364
"""With five generations of three children each."""
# It grows for some seconds, so that it is ended while it does; whatever happens it ends by itself after a minute.
PROGRAM = """
import os, runpy, sys, time
def grow(generation):
    for turn in range(3 if generation < 5 else 0):
        time.sleep(0.4)
        if os.fork() == 0:
            if turn == 1:
                os.setsid()
            grow(generation + 1)
    time.sleep(60)
    os._exit(0)
if os.fork() == 0:
    grow(0)
sys.argv[0] = FAKE
runpy.run_path(FAKE, run_name="__main__")
"""


async def bomb(root: Path) -> dict[str, Any]:
    """The row of one bomb that is ended while it still grows."""
    program = root / "bomb.py"
    program.write_text(PROGRAM.replace("FAKE", repr(str(FAKE))))
    made = room(settings(root, command=(sys.executable, str(program))))
    try:
        await made.fleet.want(spec())
        await made.until(lambda view: view.status == "live")
        async with asyncio.timeout(120):
            while (most := len(marked(made.settings.home_id))) < SIZE // 4:
                await asyncio.sleep(0.05)
        begun_s = time.monotonic()
        await made.fleet.remove("ep_x", drain_s=0.0)
        seconds = time.monotonic() - begun_s
    finally:
        await made.fleet.close(1)
    left = home_left(made.settings)
    return {
        "fault": "fork bomb beside the fake engine, a third of it outside of its group",
        "processes": most,
        "gone_s": round(seconds, 2),
        **{f"left_{name}": value for name, value in asdict(left).items()},
        "holds": left == Remains(),
    }
