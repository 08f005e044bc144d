"""Fixtures that more than one tier shares: a whole agent on the fake engine, an interpreter that has vLLM."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import postgres as postgres_server
import pytest
import uvloop
from fakes import reaper
from harness import Agent, environment, fake_engine, processes_of
from xdist.scheduler import LoadFileScheduling

Loop = Callable[[], asyncio.AbstractEventLoop]

# Containers like to forbid it, and then each of some hundred starts compiles the whole program.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
gc.disable()  # until everything is imported, which makes little garbage and much to walk


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Loop]:
    """The front meets its clients on the loop that it has in production."""
    front = "test_front" in item.path.parts
    return {"uvloop": uvloop.new_event_loop} if front else {"asyncio": asyncio.new_event_loop}


TESTS = Path(__file__).parent
TIERS = ("engine", "faults", "integration")
REAPER = pytest.StashKey["subprocess.Popen[bytes]"]()


class Files(LoadFileScheduling):
    """A file stays in one process, whose fixtures its tests share; all that runs real engines stays in one together,
    for two of them want much memory."""

    def _split_scope(self, nodeid: str) -> str:
        return "engine" if nodeid.startswith("tests/engine/") else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files | None:
    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_configure(config: pytest.Config) -> None:
    """What a run leaves behind ends with it, also where it is killed or gives up in the midst of a test."""
    os.environ[reaper.MARK] = mark = uuid.uuid4().hex
    config.stash[REAPER] = subprocess.Popen(
        [sys.executable, reaper.__file__, mark], stdin=subprocess.PIPE, start_new_session=True, env={}
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[REAPER].communicate()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What a run leaves out as a whole is not imported either: the clients' SDKs alone take seconds to import."""
    told: str = config.getoption("markexpr")
    if not re.fullmatch(r"not \w+( and not \w+)*", told):
        return None
    left_out = set(re.findall(r"not (\w+)", told))
    if collection_path.is_dir():
        return (collection_path.parent == TESTS and collection_path.name in left_out) or None
    if not collection_path.name.startswith("test_"):
        return None
    marked = re.search(r"^pytestmark = .*?(?=\n\n)", collection_path.read_text(), re.MULTILINE | re.DOTALL)
    return not left_out.isdisjoint(re.findall(r"pytest\.mark\.(\w+)", marked[0])) or None if marked else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported stays: each later collection of garbage would walk all of it."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no process has a long end to itself."""
    items.sort(key=lambda item: TIERS.index(tier) if (tier := _tier(item)) in TIERS else len(TIERS))


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Agent]]:
    """Starts agents on the fake engine (its flags are the arguments); ends them and what they left."""
    agents: list[Agent] = []

    def begin(*engine_flags: str, flags: tuple[str, ...] = (), **settings: str) -> Agent:
        command = {"PARETA_ENGINE_COMMAND": fake_engine(*engine_flags)} | settings
        agents.append(Agent(home, *flags, settings=command))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.__exit__()
    assert processes_of(home) == []


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Holds the fault suite's claim, and leaves its figures in the report (benchmarks/faults.py reads them).

    `promised` are the requests whose callers saw the end, `rows` those that are on record, one entry a record;
    `admitted` defaults to the distinct ones; `told` counts records that a damaged disk took and the node reported.
    """

    def note(
        promised: Collection[str],
        rows: Sequence[str],
        *,
        admitted: int | None = None,
        left_open: int = 0,
        told: int = 0,
    ) -> None:
        found = {
            "lost": len(set(promised) - set(rows)) - told,
            "double": len(rows) - len(set(rows)),
            "admitted": len(set(rows)) + left_open if admitted is None else admitted,
            "outcomes": len(rows),
            "open": left_open,
            "damaged_and_told": told,
        }
        for name, value in found.items():
            record_property(name, value)
        assert (found["lost"], found["double"]) == (0, 0)
        assert found["admitted"] == found["outcomes"] + found["open"]

    return note


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Postgres]:
    """A PostgreSQL server; the test is skipped where its programs are missing."""
    bin_dir = postgres_server.programs()
    if bin_dir is None:
        pytest.skip("PostgreSQL is not installed (make tools)")
    with postgres_server.running(bin_dir) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database for a plane, of each kind that it can run on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'plane.db'}"
    url: str = request.getfixturevalue("postgres").database()
    return url


@pytest.fixture(scope="session")
def engine_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the pinned CPU engine, installed once into the shared cache."""
    if given := os.environ.get("PARETA_ENGINE_PYTHON"):
        return Path(given)
    home = tmp_path_factory.mktemp("engine-home")
    done = subprocess.run(
        [sys.executable, "-m", "pareta_agent", "engine", "install", "--cpu", "--json"],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    import json

    return Path(json.loads(done.stdout.splitlines()[-1])["python"])
