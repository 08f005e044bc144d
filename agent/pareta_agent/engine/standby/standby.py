"""Standby: starts a warm process that has imported vLLM, and turns the process into an engine in seconds.

The other end of `program.py`. A standby is a single process, used once; the pool decides the number.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pareta_agent import processes
from pareta_agent.engine.process import compiled_cache
from pareta_agent.engine.process.log_tail import turn_over
from pareta_agent.engine.spec import EngineSettings
from pareta_agent.engine.vllm import command, versions
from pareta_agent.planning.plan import Plan

# Read when this agent began: an upgrade in place writes another program, with perhaps another protocol.
_PROGRAM = Path(__file__).with_name("program.py").read_text()
_DIRECTORY = "w."
_WARM_DEADLINE_S = 180.0
_ORDER_DEADLINE_S = 10.0
_IMPORT_THREADS = 1  # the cores are the engines'; the order sets the engine's own number
# Versions tried with real engines. Other versions start plainly until tried.
_TRIED_FROM, _TRIED_UNTIL = (0, 32, 0), (0, 33, 0)


def suits(settings: EngineSettings, plan: Plan) -> str | None:
    """None when this start may fork from a standby, else why not."""
    if settings.standby == 0:
        return "standby is off"
    if settings.command is not None or settings.python is None:
        return "the engine is another program"
    if "--numa-bind" in plan.flags:
        return "NUMA binding needs fresh processes"
    if plan.platform == "cpu" and not plan.enforce_eager:
        return "a standby on the CPU has imported torch without its compiler"
    return None if settings.standby_untried else _untried(settings.version, plan)


def _untried(version: str, plan: Plan) -> str | None:
    if not _TRIED_FROM <= versions.parse(version) < _TRIED_UNTIL:
        return f"untried with vLLM {version}"
    return "untried on GPUs" if plan.platform != "cpu" else None


@dataclass(frozen=True, slots=True)
class StandbyCommand:
    """The engine that a standby becomes."""

    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path
    cpus: Sequence[int] = ()
    beside: Sequence[str] = ()


class Standby:
    """A single process, used once. `become` turns the process into an engine; until then `discard` ends the process."""

    def __init__(
        self, process: processes.Process, control: socket.socket, directory: Path, marker: str
    ) -> None:
        self.process = process
        self.marker = marker
        self._control = control
        self._directory = directory
        self._ready = asyncio.create_task(self._hear_ready())

    @property
    def alive(self) -> bool:
        return self.process.alive and not (self._ready.done() and self._failed() is not None)

    @property
    def warm(self) -> bool:
        return self._ready.done() and self.alive

    async def ready(self) -> dict[str, Any]:
        """Waits until warm. Raises OSError, TimeoutError, ValueError when the warm-up fails."""
        return await asyncio.shield(self._ready)

    async def become(self, order: StandbyCommand) -> str | None:
        """Sends the order. None once the engine starts, else why the standby refused or died, and is then gone."""
        message = {
            "argv": list(order.argv),
            "env": dict(order.env),
            "log": str(order.log),
            "cwd": str(order.cwd),
            "cpus": list(order.cpus),
            "beside": list(order.beside),
        }
        try:
            async with asyncio.timeout(_ORDER_DEADLINE_S):
                await self._send(message)
                said = await self._receive()
            refusal = None if said.get("starting") else str(said.get("refused"))
        except (OSError, ValueError) as error:
            refusal = str(error) or type(error).__name__
        if refusal is not None:
            await self.discard()
            return refusal
        self._let_go()
        return None

    async def discard(self) -> None:
        self._ready.cancel()
        await asyncio.gather(self._ready, return_exceptions=True)
        await self.process.kill_group()
        self._let_go()

    def _let_go(self) -> None:
        self._control.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _failed(self) -> BaseException | None:
        return asyncio.CancelledError() if self._ready.cancelled() else self._ready.exception()

    async def _hear_ready(self) -> dict[str, Any]:
        async with asyncio.timeout(_WARM_DEADLINE_S):
            said = await self._receive()
        if said.get("unsafe"):
            raise ValueError(said["unsafe"])
        return said

    async def _send(self, message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        await asyncio.get_running_loop().sock_sendall(self._control, data)

    async def _receive(self) -> dict[str, Any]:
        buffer = b""
        while not buffer.endswith(b"\n"):
            chunk = await asyncio.get_running_loop().sock_recv(self._control, 65536)
            if not chunk:
                raise ConnectionError("the standby ended")
            buffer += chunk
        said = json.loads(buffer)
        return said if isinstance(said, dict) else {}


def sweep(settings: EngineSettings) -> None:
    """Removes what standbys of earlier agents left; while none of ours is there."""
    for directory in settings.run_dir.glob(f"{_DIRECTORY}*"):
        shutil.rmtree(directory, ignore_errors=True)


async def warm_up(settings: EngineSettings, platform: str) -> Standby:
    """Starts a standby for engines on that platform, warm some seconds later. Raises OSError."""
    name = secrets.token_hex(4)  # an engine of an earlier agent may still carry a standby's marker
    directory = settings.run_dir / f"{_DIRECTORY}{name}"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = settings.log_dir / "standby.log"
    turn_over(log)
    marker = f"{settings.home_id}/standby/{name}"
    cache = compiled_cache.ready(settings, directory / "c")
    env = command.base_environment(
        platform, directory, cache, marker, _IMPORT_THREADS, processes.environment()
    )
    script = directory / "standby_main.py"
    script.write_text(_PROGRAM)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        process = await processes.spawn(
            [str(settings.python), "-P", str(script)],
            env=env,
            cwd=directory,
            log_path=log,
            stdin_fd=theirs.fileno(),
            rlimits={"core": 0, "nofile": processes.OPEN_FILES},
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Standby(process, ours, directory, marker)
