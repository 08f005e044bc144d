"""Warm engines in waiting: processes that have imported vLLM and become a server in seconds.

A start takes one that is warm, or waits for one that is warming: either beats a plain launch, which imports
everything in each of its processes. Where it would not be safe, or fails, the start goes the plain way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pareta_agent import launch
from pareta_agent.engine.place import turn_over
from pareta_agent.engine.spec import EngineSettings
from pareta_agent.engine.vllm import command, versions
from pareta_agent.planning.plan import Plan
from pareta_agent.telemetry.events import Emit, Event

_SCRIPT = Path(__file__).with_name("standby_main.py")
_WARM_DEADLINE_S = 180.0
_ORDER_DEADLINE_S = 10.0
_FAILURES_ALLOWED = 3
# What was tried with real engines. Others start plainly until they were.
_TRIED_FROM, _TRIED_UNTIL = (0, 32, 0), (0, 33, 0)


def suits(settings: EngineSettings, plan: Plan) -> str | None:
    """None when this start may fork from a standby, else why not."""
    if settings.standby == 0:
        return "standby is off"
    if settings.command is not None or settings.python is None:
        return "the engine is another program"
    if not _TRIED_FROM <= versions.parse(settings.version) < _TRIED_UNTIL:
        return f"untried with vLLM {settings.version}"
    if plan.platform != "cpu":
        return "untried on GPUs"
    if "--numa-bind" in plan.flags:
        return "NUMA binding needs fresh processes"
    return None


@dataclass(frozen=True, slots=True)
class Order:
    """What a standby is told to become."""

    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path


class Standby:
    """One process, used once. `become` makes it an engine; until then `discard` ends it."""

    def __init__(self, process: launch.Process, control: socket.socket, directory: Path, marker: str) -> None:
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
        """Waits until it is warm. Raises OSError, TimeoutError, ValueError when it will not be."""
        return await asyncio.shield(self._ready)

    async def become(self, order: Order) -> bool:
        """Hands it the order; False when it refused or died, and then it is gone."""
        told = {
            "argv": list(order.argv),
            "env": dict(order.env),
            "log": str(order.log),
            "cwd": str(order.cwd),
        }
        try:
            async with asyncio.timeout(_ORDER_DEADLINE_S):
                await self._send(told)
                started = bool((await self._receive()).get("starting"))
        except (OSError, ValueError):
            started = False
        if not started:
            await self.discard()
            return False
        self._let_go()
        return True

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


async def warm_up(settings: EngineSettings) -> Standby:
    """Starts a standby; it is warm some seconds later. Raises OSError."""
    name = secrets.token_hex(4)  # an engine of an earlier agent may still carry its standby's marker
    directory = settings.run_dir / f"w.{name}"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = settings.log_dir / "standby.log"
    turn_over(log)
    marker = f"{settings.home_id}/standby/{name}"
    env = command.base_environment(
        "cpu", directory, settings.cache_dir, marker, command.threads(settings.threads), launch.environment()
    )
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        process = await launch.spawn(
            [str(settings.python), "-P", str(_SCRIPT)],
            env=env,
            cwd=directory,
            log_path=log,
            stdin_fd=theirs.fileno(),
            rlimits={"core": 0, "nofile": 65536},
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Standby(process, ours, directory, marker)


class StandbyPool:
    """Keeps `settings.standby` warm while no engine starts; `take` hands one out."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._waiting: list[Standby] = []
        self._failures = 0
        self._starting = 0
        self._refilling: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def ready(self) -> int:
        """How many are warm and unclaimed."""
        return sum(standby.warm for standby in self._alive())

    async def warm(self, settings: EngineSettings, plan: Plan) -> None:
        """A start will come: begin to warm one now, so that it imports while the weights are fetched."""
        if self._may(settings, plan) and not self._alive():
            with contextlib.suppress(OSError):
                self._waiting.append(await self._warm_up(settings))

    async def take(self, settings: EngineSettings, plan: Plan) -> Standby | None:
        """A warm standby, waited for while it warms; None where a plain launch is the way."""
        if not self._may(settings, plan):
            return None
        standby = None
        try:
            waiting = self._alive()
            standby = waiting[0] if waiting else await self._warm_up(settings)
            if standby in self._waiting:
                self._waiting.remove(standby)
            said = await standby.ready()
        except (OSError, ValueError) as error:
            self._failures += 1
            self._emit(Event("standby_failed", "warning", {"reason": str(error) or type(error).__name__}))
            if standby:
                await standby.discard()
            return None
        except asyncio.CancelledError:
            if standby:
                await asyncio.shield(standby.discard())
            raise
        self._failures = 0
        self._emit(Event("standby_taken", "debug", {"memory_bytes": said.get("memory_bytes")}))
        return standby

    def start_begins(self) -> None:
        """While engines start, the cores are theirs: nothing is warmed."""
        self._starting += 1

    def start_ended(self, settings: EngineSettings, plan: Plan) -> None:
        self._starting -= 1
        if self._starting == 0 and self._may(settings, plan) and not self._refilling:
            self._refilling = asyncio.create_task(self._refill(settings))

    async def close(self) -> None:
        self._closed = True
        if self._refilling:
            self._refilling.cancel()
            await asyncio.gather(self._refilling, return_exceptions=True)
        await asyncio.gather(*(standby.discard() for standby in self._waiting))
        self._waiting.clear()

    def _may(self, settings: EngineSettings, plan: Plan) -> bool:
        return not self._closed and self._failures < _FAILURES_ALLOWED and suits(settings, plan) is None

    def _alive(self) -> list[Standby]:
        return [standby for standby in self._waiting if standby.alive]

    async def _refill(self, settings: EngineSettings) -> None:
        try:
            while (
                self._starting == 0
                and len(self._alive()) < settings.standby
                and self._failures < _FAILURES_ALLOWED
            ):
                standby = await self._warm_up(settings)
                self._waiting.append(standby)
                said = await standby.ready()
                fields = {"preload_s": said.get("preload_s"), "memory_bytes": said.get("memory_bytes")}
                self._emit(Event("standby_ready", "info", fields))
        except (OSError, ValueError) as error:
            self._failures += 1
            self._emit(Event("standby_failed", "warning", {"reason": str(error) or type(error).__name__}))
        finally:
            self._refilling = None

    async def _warm_up(self, settings: EngineSettings) -> Standby:
        for dead in [standby for standby in self._waiting if not standby.alive]:
            self._waiting.remove(dead)
            await dead.discard()
        return await warm_up(settings)
