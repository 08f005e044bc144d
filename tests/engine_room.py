"""What the engine room's tests share: a fleet over the fake engine, and a look at what is left behind."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engine_plans import PLAN

from pareta_agent import processes
from pareta_agent.clock import SystemClock
from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.process.engine_process import marked
from pareta_agent.engine.replica.start_phases import ColdStartReport
from pareta_agent.engine.spec import EngineSettings, EngineSpec, FetchProgress, PhaseLimits, RestartSettings
from pareta_agent.hardware.cores import Cores, read_cores
from pareta_agent.telemetry.events import Event, Phase
from pareta_registry.catalog import Canary

FAKE = Path(__file__).resolve().parent / "fakes" / "engine.py"
CANARY = Canary(prompt="What is the capital of France?", contains="Paris", max_tokens=16)
QUICK = RestartSettings(first_delay_s=0.05, max_delay_s=0.2, budget=2, healthy_s=3600)


@dataclass
class Room:
    """A fleet with what it told: phases and events in order, and one report a start."""

    fleet: Fleet
    settings: EngineSettings
    told: list[Phase | Event] = field(default_factory=list)
    reports: list[ColdStartReport] = field(default_factory=list)

    async def until(self, done: Callable[[EndpointView], bool], endpoint: str = "ep_x") -> EndpointView:
        async with asyncio.timeout(120):
            while True:
                revision = self.fleet.revision
                view = self.fleet.view().endpoints.get(endpoint)
                if view is not None and done(view):
                    return view
                await self.fleet.changed(revision)

    def events(self, name: str) -> list[Event]:
        return [event for event in self.told if isinstance(event, Event) and event.name == name]

    def left_behind(self) -> tuple[list[int], list[str]]:
        """Pids of marked processes, and what is in the run directory."""
        run_dir = self.settings.run_dir
        files = [str(path.relative_to(run_dir)) for path in run_dir.rglob("*")] if run_dir.exists() else []
        return [found.pid for found in marked(self.settings.home_id)], files


ORPHANS: list[processes.Process] = []


async def crash(room: Room) -> None:
    """What kill -9 leaves: the tasks are gone at once, the engines run on."""
    for endpoint in room.fleet._endpoints.values():
        for slot in endpoint._slots:
            if slot.replica and slot.replica._start and slot.replica._start.engine:
                ORPHANS.append(slot.replica._start.engine._process)
                slot.replica._start.engine = None
            slot._task.cancel()
        endpoint._task.cancel()
    await asyncio.sleep(0)


async def buried() -> None:
    """Hears of the end of all that crashes left here, which have ended: an event loop is not to close before."""
    while ORPHANS:
        await ORPHANS.pop().wait()


def settings(tmp_path: Path, flags: Sequence[str] = (), **changes: object) -> EngineSettings:
    home_id = f"test{abs(hash(tmp_path)):x}"
    fields: dict[str, object] = {
        "home_id": home_id,
        "run_dir": Path(tempfile.gettempdir()) / f"pe-{home_id[-10:]}",
        "state_dir": tmp_path / "state",
        "log_dir": tmp_path / "logs",
        "cache_dir": tmp_path / "cache",
        "command": (sys.executable, str(FAKE), *flags),
        "drain_s": 5.0,
        "limits": PhaseLimits(),
        "restart": QUICK,
    }
    return EngineSettings(**{**fields, **changes})  # type: ignore[arg-type]


def room(told_settings: EngineSettings, cores: Callable[[], Cores] = read_cores) -> Room:
    told: list[Phase | Event] = []
    reports: list[ColdStartReport] = []
    fleet = Fleet(told_settings, SystemClock(), told.append, reports.append, read_cores=cores)
    return Room(fleet, told_settings, told, reports)


async def no_fetch(progress: FetchProgress) -> Path:
    progress("fetch", 10, 10)
    return Path("/weights/nowhere")


def spec(endpoint: str = "ep_x", *, sleeps: bool = False, **changes: object) -> EngineSpec:
    fields: dict[str, object] = {
        "endpoint": endpoint,
        "org": "org_a",
        "task": "t",
        "alias": "t-a-1",
        "plan": PLAN,
        "fetch": no_fetch,
        "canaries": (CANARY,),
        "may_sleep": lambda: sleeps,
    }
    return EngineSpec(**{**fields, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def rooms_in(root: Path, *, heirs: bool = False) -> AsyncIterator[Callable[..., Room]]:
    """Makes fleets over one state directory; in the end nothing of them is left. `heirs`: each took over from the one
    before, so only the last has anything to close."""
    rooms: list[Room] = []

    def make(*flags: str, **changes: object) -> Room:
        rooms.append(room(settings(root, flags, **changes)))
        return rooms[-1]

    yield make
    ended = rooms[-1:] if heirs else rooms
    for made in ended:
        made.fleet.hurry()
        await made.fleet.close(1)
    await buried()
    for made in ended:
        assert made.left_behind() == ([], [])
        shutil.rmtree(made.settings.run_dir, ignore_errors=True)
