"""Compilers: finds compilers among an engine's processes, an excuse for the watchdog.

vLLM and the libraries compile in the engine's loop (torch.compile, Triton, FlashInfer), which answers no request
meanwhile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pareta_agent import processes

_NAMES: Final = re.compile(
    r"(?:\w[\w.]*-)*(?:cc|cc1|cc1plus|gcc|[cg]\+\+|c89|c99|collect2|lto1|lto-wrapper|as|ld|ld\.\w+|lld|mold|clang|clang\+\+"
    r"|icx|icpx|nvcc|cicc|cudafe\+\+|ptxas|nvlink|fatbinary|hipcc|ninja|cmake|make|cargo|rustc)(?:-[\d.]+)?"
)
_WORKER: Final = re.compile(r"torch/_inductor/compile_worker|torch\._inductor\.compile_worker")
_WORDS: Final = 3


@dataclass(slots=True)
class Stillness:
    """Counts the seconds that an engine has stood still without an excuse. Pure but for the counters.

    A compiler excuses the engine until `compile_s` after the last move: an endless compiler is a hang too.
    """

    compile_s: float
    compiled_s: float = -math.inf

    def seconds(self, now_s: float, moved_s: float, *, compiling: bool) -> float:
        if compiling and now_s - moved_s <= self.compile_s:
            self.compiled_s = now_s
        return now_s - max(moved_s, self.compiled_s)


def compiling(leader: processes.Process) -> bool:
    """True while a descendant, or a process of the group, is a compiler or a compile worker at work."""
    return any(_compiles(found) for found in family(leader.pid, processes.processes()))


def family(leader: int, running: Iterable[processes.Stat]) -> list[processes.Stat]:
    """The members of the group and all descendants, without the leader: compile pools may lead separate sessions."""
    listed = sorted(running, key=lambda found: (found.started, found.pid))
    pids, found = {leader}, []
    for each in listed:
        if each.pid != leader and (each.group == leader or each.parent in pids):
            pids.add(each.pid)
            found.append(each)
    return found


def is_compiler(name: str, words: Sequence[str]) -> bool:
    """From a process's name and the first words of the command line: a script's name follows the interpreter's."""
    return any(_NAMES.fullmatch(word.rpartition("/")[2]) for word in (name, *words[:2]))


def _compiles(found: processes.Stat) -> bool:
    try:
        name = Path(f"/proc/{found.pid}/comm").read_text().strip()
        line = Path(f"/proc/{found.pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return False  # ended
    words = line.split("\0")[:_WORDS]
    works = found.state == "R" and any(
        _WORKER.search(word) for word in words
    )  # a pool of workers waits for ever
    return works or is_compiler(name, words)
