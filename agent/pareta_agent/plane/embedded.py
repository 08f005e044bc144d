"""Embedded plane: runs a control plane in a child process on loopback, over the same wire as a hosted plane.

In a process of its own, disk and JSON work never delays the agent's event loop. The process ends with the agent.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from pareta_agent import processes
from pareta_agent.backoff import Backoff
from pareta_agent.errors import PlaneError
from pareta_agent.plane.seed import DATABASE_ENV, FIRST_KEY, Seed, SeedEndpoint, node_token, plane_home
from pareta_agent.telemetry.events import Emit, Event

__all__ = ["EmbeddedPlane", "Seed", "SeedEndpoint", "start"]

_READY_WITHIN_S = 30.0
_STOP_WITHIN_S = 5.0
_RESTART = Backoff(first_s=0.2, cap_s=30.0)
_POLL_S = 0.2


class EmbeddedPlane:
    """A running plane."""

    def __init__(
        self,
        home: Path,
        seed: Seed,
        port: int,
        process: processes.Process,
        database: str | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.node_token = node_token(home)
        self.process = process
        self._home, self._seed, self._port, self._database = home, seed, port, database

    async def keep(self, emit: Emit) -> None:
        """Supervises the process until cancelled: starts a new process at the same address after each end.

        A failed start emits an event and is repeated with growing backoff: without the plane the node serves no
        calls.
        """
        while True:
            emit(Event("plane_ended", "warning", {"status": await self.process.wait()}))
            failures = 1
            while not await self._started_anew(_RESTART.delay_s(failures), emit):
                failures += 1

    async def _started_anew(self, wait_s: float, emit: Emit) -> bool:
        await asyncio.sleep(wait_s)
        try:
            again = await start(self._home, self._seed, self._port, self._database)
        except (OSError, PlaneError) as error:
            emit(Event("plane_not_started", "error", {"reason": str(error)}))
            return False
        self.process = again.process
        return True

    async def first_key(self) -> str | None:
        """Mints and returns the org's first key; None when the org has a key. Raises PlaneError `plane_away`."""
        headers = {"authorization": f"Bearer {self.node_token}"}
        try:
            async with asyncio.timeout(_READY_WITHIN_S), aiohttp.ClientSession(headers=headers) as session:
                while True:
                    try:
                        async with session.post(self.url + FIRST_KEY, raise_for_status=True) as answer:
                            secret: str | None = (await answer.json())["api_key"]
                            return secret
                    except aiohttp.ClientError:
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            message = f"the embedded control plane returned no key within {_READY_WITHIN_S:.0f} s"
            raise PlaneError("plane_away", message, "create a key with `pareta-agent keys create`") from None

    async def stop(self) -> None:
        """Ends the process: SIGTERM first, then SIGKILL."""
        self.process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self.process.wait()
        except TimeoutError:
            await self.process.kill_group()


async def start(home: Path, seed: Seed, port: int = 0, database: str | None = None) -> EmbeddedPlane:
    """Starts the plane on `database`, or on the file under `home`, and waits for the ready line; raises PlaneError."""
    argv = [sys.executable, "-m", "pareta_agent.plane", "--home", str(home), "--port", str(port)]
    argv += ["--log", str(plane_home(home) / "plane.log")]
    process = await processes.spawn(
        [*argv, "--seed", seed.model_dump_json()],
        env=processes.environment(
            {DATABASE_ENV: database} if database else None
        ),  # the URL may hold a password
        stdout_pipe=True,
        new_session=True,
        die_with_parent=True,
    )
    said: list[str] = []
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            ready = await _ready_line(process, said)
    except TimeoutError:
        ready = None
    except BaseException:
        await asyncio.shield(process.kill_group())
        raise
    if ready is None:
        await process.kill_group()
        message = "the embedded control plane did not start: " + (" ".join(said)[-500:] or "no output")
        raise PlaneError("plane_not_started", message, "run `pareta-agent plane serve` to see why")
    return EmbeddedPlane(home, seed, int(ready["port"]), process, database)


async def _ready_line(process: processes.Process, said: list[str]) -> dict[str, Any] | None:
    """Returns the first line that is JSON; None at the end of the output. Earlier lines are added to `said`."""
    while process.stdout is not None and (line := await process.stdout.readline()):
        try:
            return dict(orjson.loads(line))
        except (orjson.JSONDecodeError, TypeError, ValueError):
            said.append(line.decode("utf-8", "replace").strip())
    return None
