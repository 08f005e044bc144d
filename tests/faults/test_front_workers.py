"""Front processes beside the main one die, or it does: every call is recorded once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes.ports import free_port
from harness import Agent, fake_engine, processes_of

pytestmark = pytest.mark.slow

ENDPOINT = "ep_contract_kie"
CALLERS = 64
Figures = Callable[..., None]
FRONTS = ("--front-workers", "2")


def settings() -> dict[str, str]:
    return {"PARETA_ENGINE_COMMAND": fake_engine("--slow-token", "0.02")}


async def call(session: aiohttp.ClientSession, url: str) -> tuple[str | None, bool]:
    """The request's id, if its head came, and whether its answer came whole."""
    body = {"model": ENDPOINT, "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 12}
    request_id = None
    try:
        async with session.post(url, json={**body, "stream": True}) as response:
            request_id = response.headers.get("x-request-id")
            text = await response.text()
            return request_id, text.endswith("data: [DONE]\n\n")
    except (aiohttp.ClientError, OSError):
        return request_id, False


async def caller(ready: dict[str, Any], stop: asyncio.Event, seen: list[tuple[str | None, bool]]) -> None:
    connector = aiohttp.TCPConnector(limit=1, force_close=True)
    headers = {"authorization": f"Bearer {ready['api_key']}"}
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        while not stop.is_set():
            seen.append(await call(session, ready["base_url"] + "/chat/completions"))


async def kill_workers(agent: Agent, times: int) -> int:
    """SIGKILL to one worker after the other, each once both answer; how many calls those had then, and some more."""
    open_then = 0
    for number in range(times):
        while True:
            workers = (await asyncio.to_thread(agent.status))["front_workers"]
            if all(each["state"] == "up" for each in workers):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.3)
        victim = workers[number % len(workers)]
        open_then += CALLERS
        os.kill(victim["pid"], signal.SIGKILL)
        await asyncio.sleep(0.2)
    return open_then


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.long)])
async def test_workers_that_die_lose_nothing(home: Path, times: int, figures: Figures) -> None:
    """64 callers: what a worker had is recorded as crashed and costs nothing, what was answered is recorded once."""
    seen: list[tuple[str | None, bool]] = []
    with Agent(home, *FRONTS, settings=settings()) as agent:
        ready = await asyncio.to_thread(agent.ready)
        stop = asyncio.Event()
        callers = [asyncio.create_task(caller(ready, stop, seen)) for _ in range(CALLERS)]
        most_lost = await kill_workers(agent, times)
        await asyncio.sleep(1.0)
        stop.set()
        await asyncio.gather(*callers)
        agent.command("spool", "flush")
        rows, spool = agent.usage(), agent.status()["spool"]
    whole = {request_id for request_id, good in seen if good}
    broken = [request_id for request_id, good in seen if not good]
    outcomes = {row["request_id"]: row["outcome"] for row in rows}
    assert {outcomes.get(each) for each in whole} == {"completed"}
    crashed = [row for row in rows if row["outcome"] == "agent_crash"]
    assert {row["debit_micro_usd"] for row in crashed} == {0}
    assert len(broken) <= most_lost * 0.9  # the other worker's went on
    assert (spool["open"], spool["admitted"]) == (0, spool["terminal"])
    figures([str(each) for each in whole], [row["request_id"] for row in rows], admitted=spool["admitted"])
    assert processes_of(home) == []


async def test_workers_end_with_the_main_process(home: Path) -> None:
    """kill -9 of it under load: its port is free at once, and the next start records what was open."""
    seen: list[tuple[str | None, bool]] = []
    port = free_port()
    with Agent(home, *FRONTS, settings=settings(), port=port) as agent:
        ready = await asyncio.to_thread(agent.ready)
        workers = [each["pid"] for each in (await asyncio.to_thread(agent.status))["front_workers"]]
        stop = asyncio.Event()
        callers = [asyncio.create_task(caller(ready, stop, seen)) for _ in range(8)]
        async with asyncio.timeout(120):
            while not (seen and await asyncio.to_thread(agent.open_on_disk)):
                await asyncio.sleep(0.02)
        agent.kill()
        stop.set()
        await asyncio.gather(*callers)
        async with asyncio.timeout(120):
            while any(Path(f"/proc/{pid}").exists() for pid in workers):
                await asyncio.sleep(0.05)
    with Agent(home, *FRONTS, settings=settings(), port=port) as agent:
        await asyncio.to_thread(agent.ready)
        agent.command("spool", "flush")
        rows, spool = agent.usage(), agent.status()["spool"]
    outcomes = {row["request_id"]: row["outcome"] for row in rows}
    assert {outcomes[each] for each, good in seen if good and each} <= {"completed"}
    assert "agent_crash" in outcomes.values()
    assert spool["open"] == 0
