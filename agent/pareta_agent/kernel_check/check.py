"""Kernel check: compares vLLM's kernels with float32 once per engine version and device, and stores the result.

`program.py` runs the kernels in the engine's interpreter; this module starts that program and reads one JSON line.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pareta_agent import processes
from pareta_agent.errors import EngineError
from pareta_agent.planning.support.numerics import Op, WrongKernel
from pareta_registry.files import write_atomically

_PROGRAM: Final = Path(__file__).with_name("comparisons.py")
_DEADLINE_S: Final = 300.0
_ENVIRONMENT: Final = {
    "VLLM_PLUGINS": "",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCHDYNAMO_DISABLE": "1",
    "KMP_BLOCKTIME": "0",  # waiting threads leave the cores to other programs
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # counts GPUs without a CUDA context, which does not survive a fork
}


class KernelResult(BaseModel):
    """A kernel in one case. `error`: largest deviation over the largest reference value; None: did not run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    op: Op
    backend: str
    dtype: str
    case: str
    limit: float
    error: float | None = None
    detail: str = ""

    @property
    def wrong(self) -> bool:
        return self.error is not None and self.error > self.limit


class KernelCheck(BaseModel):
    """The result of the check on `device` with this version of vLLM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    device: str
    rows: tuple[KernelResult, ...] = Field(min_length=1)

    @property
    def wrong(self) -> tuple[WrongKernel, ...]:
        """The worst case of each failed kernel."""
        worst: dict[tuple[str, str, str], KernelResult] = {}
        for row in self.rows:
            held = worst.get((row.op, row.backend, row.dtype))
            if row.wrong and (held is None or (row.error or 0) > (held.error or 0)):
                worst[row.op, row.backend, row.dtype] = row
        return tuple(
            WrongKernel(row.op, row.backend, row.dtype, row.case, row.error or 0, row.limit)
            for row in worst.values()
        )

    @property
    def compared(self) -> int:
        return sum(row.error is not None for row in self.rows)


def summary(check: KernelCheck) -> str:
    """One line of text: the number of comparisons, and the wrong kernels."""
    if not check.wrong:
        return f"{check.compared} comparisons with float32, all within rounding"
    return "wrong: " + ", ".join(map(str, check.wrong))


def table(check: KernelCheck) -> Iterator[str]:
    """A line per kernel: worst error, limit and verdict."""
    kernels: dict[tuple[str, str, str], list[KernelResult]] = {}
    for row in check.rows:
        kernels.setdefault((row.op, row.backend, row.dtype), []).append(row)
    for (op, backend, dtype), rows in kernels.items():
        errors = [row.error for row in rows if row.error is not None]
        verdict = (
            "wrong"
            if any(row.wrong for row in rows)
            else "right"
            if errors
            else f"did not run: {rows[0].detail}"
        )
        worst = f"{max(errors):8.5f} of {rows[0].limit:.5f}" if errors else ""
        yield f"{op:10} {backend:12} {dtype:9} {len(rows):4} cases {worst:20} {verdict}"


def checked(cache: Path, version: str, device: str) -> KernelCheck | None:
    """The stored result of this version and device, or None. Starts no process."""
    try:
        return KernelCheck.model_validate_json(_file(cache, version, device).read_bytes())
    except (OSError, ValidationError):
        return None


async def check(engine_python: Path, cache: Path, version: str, device: str) -> KernelCheck:
    """Runs the check and stores the result. Takes about 15 s of one core, mostly for the import of vLLM.

    Raises EngineError(`kernel_check_failed`) if the interpreter returns no result.
    """
    command = [str(engine_python), "-W", "ignore", str(_PROGRAM)]
    try:
        done = await processes.run(
            command, env={**processes.environment(), **_ENVIRONMENT}, timeout_s=_DEADLINE_S
        )
        lines = [line for line in done.output.splitlines() if line.startswith("{")]
        found = KernelCheck(version=version, device=device, **json.loads(lines[-1]))
    except (LookupError, ValueError, TypeError, TimeoutError, OSError) as error:
        raise EngineError(
            "kernel_check_failed",
            f"the engine's kernels could not be checked ({type(error).__name__})",
            "check the interpreter with `pareta-agent doctor`; each start still requires a right canary",
        ) from error
    await asyncio.to_thread(remember, found, cache)
    return found


def remember(found: KernelCheck, cache: Path) -> None:
    """Stores the result in the directory `cache`, by version and device."""
    cache.mkdir(parents=True, exist_ok=True)
    file = _file(cache, found.version, found.device)
    write_atomically(file, found.model_dump_json(indent=1).encode())


def _file(cache: Path, version: str, device: str) -> Path:
    return cache / f"kernels-{version}-{hashlib.sha256(device.encode()).hexdigest()[:12]}.json"
