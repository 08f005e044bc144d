"""Stacks: dumps the stacks of all processes of a frozen engine before the kill.

py-spy reads stacks from outside where installed. Otherwise SIGABRT makes each process write a stack
(`PYTHONFAULTHANDLER`) to the log and end: the engine was to be killed anyway. Stacks name code and lines, never a
request's content.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from signal import SIGABRT, SIGCONT

from pareta_agent import processes
from pareta_agent.engine.process.log_tail import turn_over
from pareta_agent.engine.process.run_dir import RunDir

_PY_SPY_S = 5.0
_LAST_WORDS_S = 2.0


async def dump(process: processes.Process, run_dir: RunDir, python: Path | None) -> Path | None:
    """The file that holds the stacks, beside the engine's log; None without any stack."""
    dumped = await _by_py_spy(process, _py_spy(python)) or await _by_themselves(process, run_dir.log)
    if not dumped.strip():
        return None
    path = run_dir.log.with_suffix(".stacks")
    with contextlib.suppress(OSError):
        turn_over(path)
        path.touch(0o600)
        path.write_text(dumped)
        return path
    return None


def _py_spy(python: Path | None) -> str | None:
    """The engine's own, else the machine's."""
    beside = python.with_name("py-spy") if python else None
    return str(beside) if beside and beside.exists() else shutil.which("py-spy")


async def _by_py_spy(process: processes.Process, program: str | None) -> str:
    """Empty when py-spy is missing, may not look, or takes too long."""
    if program is None:
        return ""
    dumped = []
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_PY_SPY_S):
            for member in process.group():
                # no pause: a process held by SIGSTOP would never be given back
                argv = [program, "dump", "--nonblocking", "--pid", str(member.pid)]
                done = await processes.run(argv, timeout_s=_PY_SPY_S)
                dumped += [done.output] if done.returncode == 0 else []
    return "\n".join(dumped)


async def _by_themselves(process: processes.Process, log: Path) -> str:
    try:
        before = log.stat().st_size
    except OSError:
        return ""
    for member in process.group():
        handle = processes.Process(member.pid, member.started)
        handle.signal(SIGABRT)
        handle.signal(SIGCONT)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _LAST_WORDS_S
    while loop.time() < end_s:
        await asyncio.sleep(0.05)
        if not process.group():
            break
    with log.open("rb") as file:
        file.seek(before)
        return file.read().decode("utf-8", "replace")
