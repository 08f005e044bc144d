"""Walk tracer: lists the functions of the agent's packages that a process calls while a walk is recorded.

Python imports this module at the start of each process below `benchmarks/walks.py`. The file `$WALK_TRACE/walk`
names the walk to record; at its end each process writes `<walk>.<pid>.json`.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

POLL_S = 0.02
PACKAGES = ("/pareta_agent/", "/pareta_registry/")
_seen: dict[tuple[str, str], float] = {}
_recording = False


def _called(frame: FrameType, event: str, _: Any) -> None:
    if event == "call" and _recording:
        code = frame.f_code
        if any(package in code.co_filename for package in PACKAGES):
            _seen.setdefault((code.co_filename, code.co_name), time.time())


def _follow(folder: Path) -> None:
    global _recording
    sys.setprofile(None)
    walk = ""
    while True:
        wanted = (folder / "walk").read_text() if (folder / "walk").exists() else ""
        if wanted != walk:
            _recording = False
            if walk:
                calls = sorted((when, file, name) for (file, name), when in _seen.items())
                text = json.dumps({"argv": sys.argv, "calls": [call[1:] for call in calls]})
                (folder / f"{walk}.{os.getpid()}.json").write_text(text)
            _seen.clear()
            walk, _recording = wanted, bool(wanted)
        time.sleep(POLL_S)


if "WALK_TRACE" in os.environ:
    threading.setprofile(_called)
    threading.Thread(target=_follow, args=(Path(os.environ["WALK_TRACE"]),), daemon=True).start()
    sys.setprofile(_called)
