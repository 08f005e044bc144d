"""Engines that are killed while they start: each of their processes, in each phase, plainly and from a standby.

One fleet, one wish: the restart after a case is the next case's start.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engine_plans import PLAN
from engine_room import Room, room, settings, spec

from enginelab.remains import Engine, Remains, seen
from pareta_agent.engine.spec import EngineSpec, FetchProgress, RestartSettings
from pareta_agent.telemetry.events import Phase

PATIENT = RestartSettings(first_delay_s=0.1, max_delay_s=0.2, budget=99)
# The worker is a process of its own here, as where an engine has several devices.
WORKING = replace(PLAN, flags=("--distributed-executor-backend", "mp"))
_SERVING = "serving"
Case = tuple[str, str]
PLAIN: tuple[Case, ...] = (
    ("spawn", "server"),
    ("import", "server"),
    ("import", "core"),
    ("import", "tracker"),
    ("import", "worker"),
    ("load", "worker"),
)
FORKED: tuple[Case, ...] = tuple(
    (phase, role) for phase in ("load", "profile", "probe") for role in ("server", "core", "worker")
)
_PHASES = ("spawn", "import", "load", "profile", "probe", _SERVING)
_PATIENCE_S = 240.0


def wanted(model: Path) -> EngineSpec:
    async def fetch(_progress: FetchProgress) -> Path:
        return model

    return spec(plan=WORKING, fetch=fetch)


@asynccontextmanager
async def real_room(root: Path, python: Path, standby: int) -> AsyncIterator[Room]:
    """A fleet over real engines under `root`; what it leaves is in no row, so it fails here."""
    found = room(settings(root, command=None, python=python, standby=standby, restart=PATIENT))
    try:
        yield found
    finally:
        found.fleet.hurry()
        await found.fleet.close(1)
        assert found.left_behind() == ([], [])


async def kills(made: Room, model: Path, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """One row a case: what is left once the victim was killed in its phase, and when the next start began.

    Whoever starts after the last one must go live.
    """
    rows = []
    for phase, role in cases:
        while (engine := await _started(made, model, phase, role)) is None:
            await made.fleet.remove("ep_x", drain_s=0.0)
        rows.append(await _kill(made, engine, phase, role))
    begun_s = time.monotonic()
    async with asyncio.timeout(_PATIENCE_S):
        while (view := made.fleet.view().endpoints["ep_x"]).status != "live":
            assert view.status != "failed", view.reason
            await asyncio.sleep(0.1)
    rows[-1]["live_again_s"] = round(time.monotonic() - begun_s, 1)
    await made.fleet.remove("ep_x", drain_s=0.0)
    return rows


async def _started(made: Room, model: Path, phase: str, role: str) -> Engine | None:
    if made.settings.standby:  # what failed from a standby is tried plainly next, so that is not waited for
        await made.fleet.remove("ep_x")
        await made.fleet.standbys.warm(made.fleet.settings, WORKING)
        await _standby_warm(made)
    await made.fleet.want(wanted(model))
    return await _moment(made, phase, role)


async def _kill(made: Room, engine: Engine, phase: str, role: str) -> dict[str, Any]:
    os.kill(engine.members[role].pid, signal.SIGKILL)
    killed_s = time.monotonic()
    how = "from a standby" if made.settings.standby else "plain"
    row: dict[str, Any] = {"fault": f"kill -9 of the {role} in phase {phase}, {how}"}
    if role == "tracker":  # it only sweeps after the others: without it the start goes on
        await asyncio.sleep(2.0)
        newer = seen(made.settings, "ep_x")
        return row | {"holds": newer is not None and newer.generation == engine.generation}
    left = await engine.gone()
    gone_s = time.monotonic() - killed_s
    await _next_after(made, engine.generation)
    return row | {
        **{f"left_{name}": value for name, value in asdict(left).items()},
        "gone_s": round(gone_s, 2),
        "started_again_s": round(time.monotonic() - killed_s, 2),
        "holds": left == Remains(),
    }


async def _next_after(made: Room, generation: int) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while (newer := seen(made.settings, "ep_x")) is None or newer.generation <= generation:
            await asyncio.sleep(0.02)


async def _moment(made: Room, phase: str, role: str) -> Engine | None:
    """When the start is in that phase and has that process; what is seen of it then. None: that was missed."""
    async with asyncio.timeout(_PATIENCE_S):
        while (now := _phase(made)) not in _PHASES[_PHASES.index(phase) + 1 :]:
            engine = seen(made.settings, "ep_x") if now == phase else None
            if engine is not None and role in engine.members:
                return engine
            await asyncio.sleep(0.005)
    return None


def _phase(made: Room) -> str | None:
    """The phase that the newest start is in, or that it is over."""
    view = made.fleet.view().endpoints.get("ep_x")
    if view is not None and view.status == "live":
        return _SERVING
    last = next((told for told in reversed(made.told) if isinstance(told, Phase)), None)
    return last.phase if last is not None and last.state in ("started", "progress") else None


async def _standby_warm(made: Room) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not made.fleet.standbys.ready:
            await asyncio.sleep(0.1)
