"""Support probe: reads an installed engine's kernels once per version, and stores the result in a file.

`engine_probe.py` runs in the engine's interpreter; this module starts that program and reads one JSON line.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from pareta_agent import processes
from pareta_agent.errors import EngineError
from pareta_agent.planning.support.support import Support, snapshot
from pareta_agent.planning.support.support_snapshot import CAPABILITIES
from pareta_registry.files import write_atomically

SUPPORT: Final = "support"
"""The directory of stored results under the shared cache."""
_PROGRAM: Final = Path(__file__).with_name("engine_probe.py")
_DEADLINE_S: Final = 300.0
_UNKNOWN: Final = "unknown"


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    cuda_build: str | None
    kernels: dict[str, dict[str, str]]


async def probed(
    engine_python: Path, cache: Path, version: str, capabilities: tuple[str, ...] = CAPABILITIES
) -> Support:
    """The support of this engine by its own selectors, from the directory `cache` if the version is stored.

    A probe takes about a minute of one core. Raises EngineError if the interpreter returns no result.
    """
    file = cache / f"support-{version}.json"
    known = _read(file)
    if known is None:
        known = await _ask(engine_python, capabilities)
        cache.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(write_atomically, file, known.model_dump_json().encode())
    return _support(known)


def cached(cache: Path, version: str | None) -> Support:
    """The stored result of this version, else the shipped snapshot. Starts no process."""
    known = _read(cache / f"support-{version}.json") if version else None
    return _support(known) if known is not None else snapshot(version)


async def _ask(engine_python: Path, capabilities: tuple[str, ...]) -> _Answer:
    done = await processes.run(
        [str(engine_python), "-W", "ignore", str(_PROGRAM), *capabilities], timeout_s=_DEADLINE_S
    )
    lines = [line for line in done.output.splitlines() if line.startswith("{")]
    try:
        return _Answer.model_validate_json(lines[-1])
    except (IndexError, ValidationError) as error:
        raise EngineError(
            "support_probe_failed",
            f"the probe of the engine's supported kernels failed (exit {done.returncode})",
            "check the interpreter with `pareta-agent doctor`; until then plans use the shipped table",
        ) from error


def _read(file: Path) -> _Answer | None:
    try:
        return _Answer.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _support(answer: _Answer) -> Support:
    """The probed support, with the snapshot's kernel for each selector that crashed."""
    shipped = snapshot(answer.version).kernels
    kernels = {
        form: {
            capability: shipped.get(form, {}).get(capability, "torch") if kernel == _UNKNOWN else kernel
            for capability, kernel in row.items()
        }
        for form, row in answer.kernels.items()
    }
    return Support(answer.version, kernels)
