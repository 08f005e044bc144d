"""Engines that compile at a first use: in their start, kept for the next one, and never taken for a hang."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from engine_room import Room, rooms_in, spec

from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.engine.process import compiled_cache
from pareta_agent.engine.process.engine_process import marked
from pareta_agent.engine.spec import PhaseLimits, RestartSettings

pytestmark = pytest.mark.slow

Make = Callable[..., Room]
PATIENT = RestartSettings(first_delay_s=0.05, max_delay_s=0.1, budget=9)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with rooms_in(tmp_path) as make_room:
        yield make_room


def live(view: EndpointView) -> bool:
    return view.status == "live"


async def ask_logprobs(view: EndpointView) -> int:
    transport = httpx.AsyncHTTPTransport(uds=str(view.replicas[0].socket))
    async with httpx.AsyncClient(transport=transport, timeout=60) as client:
        ask = {"prompt": "hello", "max_tokens": 2, "logprobs": 1}
        return (await client.post("http://engine/v1/completions", json=ask)).status_code


def in_flight(made: Room, calls: int) -> None:
    made.fleet.watch(lambda _replica: calls)


async def first_end(made: Room) -> str:
    async with asyncio.timeout(120):
        while not made.events("engine_ended"):
            await asyncio.sleep(0.05)
    return str(made.events("engine_ended")[0].fields["code"])


async def test_a_start_that_compiles_is_waited_for(make: Make, tmp_path: Path) -> None:
    """The first call with logprobs is the start's own, and may take longer than an answer may."""
    compiling = tmp_path / "compiling"
    compiling.touch()
    made = make("--compile-when", str(compiling), limits=PhaseLimits(probe_s=6.0))
    await made.fleet.want(spec())
    await asyncio.sleep(8.0)
    assert made.events("engine_ended") == []
    compiling.unlink()
    view = await made.until(live)
    assert view.replicas[0].generation == 1


async def test_a_start_whose_compiler_never_ends_is_a_hang(make: Make, tmp_path: Path) -> None:
    """The excuse has a limit of its own."""
    compiling = tmp_path / "compiling"
    compiling.touch()
    made = make(
        "--compile-when", str(compiling), limits=PhaseLimits(probe_s=0.3, compile_s=1.0), restart=PATIENT
    )
    await made.fleet.want(spec())
    assert await first_end(made) == "engine_hung"
    compiling.unlink()
    await made.until(live)


async def test_a_serving_engine_that_compiles_is_not_ended(make: Make, tmp_path: Path) -> None:
    """It answers nobody, not even its metrics, for longer than it may stand still; then it answers."""
    compiling = tmp_path / "compiling"
    made = make("--compile-when", str(compiling), progress_s=0.5)
    await made.fleet.want(spec())
    view = await made.until(live)
    in_flight(made, 1)
    compiling.touch()
    asked = asyncio.create_task(ask_logprobs(view))
    await asyncio.sleep(3.0)
    compiling.unlink()
    assert await asked == 200
    in_flight(made, 0)
    assert made.events("engine_ended") == []


async def test_a_serving_engine_whose_compiler_never_ends_is_replaced(make: Make, tmp_path: Path) -> None:
    """A compiler that hangs is a hang too."""
    compiling = tmp_path / "compiling"
    made = make(
        "--compile-when", str(compiling), progress_s=0.5, limits=PhaseLimits(compile_s=1.0), restart=PATIENT
    )
    await made.fleet.want(spec())
    view = await made.until(live)
    in_flight(made, 1)
    compiling.touch()
    with pytest.raises(httpx.HTTPError):
        await ask_logprobs(view)
    assert await first_end(made) == "engine_stalled"
    in_flight(made, 0)
    compiling.unlink()
    await made.until(lambda view: live(view) and view.replicas[0].generation > 1)


async def test_an_engine_that_dies_of_logprobs_does_not_become_ready(make: Make) -> None:
    """A host without what it needs at run time: found in the start, not by each caller in turn."""
    made = make("--die-of", '"logprobs"')
    await made.fleet.want(spec())
    view = await made.until(lambda view: view.status == "failed")
    assert view.replicas == ()
    assert {report.outcome for report in made.reports} == {"failed"}


async def test_what_was_compiled_is_there_for_the_next_start(make: Make) -> None:
    """The cache outlives the generation that filled it, and its temporary directory."""
    made = make("--compiles")
    await made.fleet.want(spec())
    await made.until(live)
    library = compiled_cache.directory(made.settings) / "inductor" / "kernel.so"
    written = library.stat().st_mtime_ns
    kill(made)
    await made.until(lambda view: live(view) and view.replicas[0].generation == 2)
    assert library.stat().st_mtime_ns == written


async def test_a_damaged_cache_does_not_end_an_endpoint(make: Make) -> None:
    """An engine that cannot load it ends, and the next one begins with an empty cache, though such an end is final
    elsewhere."""
    made = make("--compiles")
    await made.fleet.want(spec())
    await made.until(live)
    damaged = compiled_cache.directory(made.settings)
    (damaged / "inductor" / "kernel.so").write_bytes(b"\x7fE")
    kill(made)
    view = await made.until(lambda view: live(view) and view.replicas[0].generation > 1)
    assert view.replicas[0].generation == 3
    assert compiled_cache.directory(made.settings) != damaged
    assert len(made.events("compiled_cache_left")) == 1


async def test_a_cache_that_is_no_directory_does_not_matter(make: Make) -> None:
    """Whatever lies in its place."""
    made = make("--compiles")
    made.settings.cache_dir.write_text("no directory")
    await made.fleet.want(spec())
    await made.until(live)
    assert (compiled_cache.directory(made.settings) / "inductor" / "kernel.so").is_file()


def kill(made: Room) -> None:
    for found in marked(made.settings.home_id):
        os.kill(found.pid, signal.SIGKILL)
