"""`serve --upgrade`: the next agent takes over under load, and no caller sees anything of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from fakes.certificates import make_certificate
from harness import Agent, fake_engine, processes_of

from pareta_agent import processes

pytestmark = pytest.mark.slow

ENDPOINT = "ep_contract_kie"
FRONT = ["-P", "-m", "pareta_agent.gateway.worker_main"]
SLOW = ("--slow-token", "0.01")
Serve = Callable[..., Agent]
Figures = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as its caller saw it; `error` is empty when the answer came whole."""

    request_id: str | None
    tokens: int
    error: str = ""


@pytest.fixture
def serve(home: Path) -> Iterator[Serve]:
    """Starts agents of one home on the fake engine."""
    agents: list[Agent] = []

    def begin(*flags: str, engine: tuple[str, ...] = SLOW, port: int = 0, **more: str) -> Agent:
        command = {"PARETA_ENGINE_COMMAND": fake_engine(*engine)} | more
        agents.append(Agent(home, *flags, settings=command, port=port))
        return agents[-1]

    yield begin
    for agent in reversed(agents):
        agent.__exit__()
    assert processes_of(home) == []


async def call(session: aiohttp.ClientSession, url: str, *, stream: bool, tokens: int = 12) -> Seen:
    body = {"model": ENDPOINT, "messages": [{"role": "user", "content": "Go on."}]}
    request_id = None
    try:
        async with session.post(url, json={**body, "stream": stream, "max_tokens": tokens}) as response:
            request_id = response.headers.get("x-request-id")
            text = await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return Seen(request_id, 0, repr(error))
    whole = text.endswith("data: [DONE]\n\n") if stream else response.status == 200
    said = text.count('"content":"') - text.count('"content":""') if stream else tokens
    return Seen(
        request_id, said, "" if whole and response.status == 200 else f"{response.status} {text[-200:]}"
    )


class Load:
    """Callers over connections that they keep, and as many that open one for each call; two of them have streams
    of `longest` tokens."""

    def __init__(
        self, ready: dict[str, Any], key: str, trusted: Path | None = None, longest: int = 12
    ) -> None:
        self._context = ssl.create_default_context(cafile=trusted) if trusted else False
        self.seen: list[Seen] = []
        self._url, self._key = ready["base_url"] + "/chat/completions", key
        self._stop, self._longest = asyncio.Event(), longest
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(12)]

    async def _run(self, number: int) -> None:
        connector = aiohttp.TCPConnector(limit=1, force_close=number % 2 == 0, ssl=self._context)
        headers = {"authorization": f"Bearer {self._key}"}
        async with aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=120)
        ) as session:
            while not self._stop.is_set():
                tokens = self._longest if number % 6 == 1 else 12
                self.seen.append(await call(session, self._url, stream=number % 3 > 0, tokens=tokens))

    async def end(self) -> list[Seen]:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        return self.seen


def check(agent: Agent, seen: list[Seen]) -> None:
    """No call failed, and the ledger is what the callers saw, once each."""
    assert [each.error for each in seen if each.error] == []
    agent.command("spool", "flush")
    rows = agent.usage()
    assert Counter(row["request_id"] for row in rows) == Counter(each.request_id for each in seen)
    by_id = {row["request_id"]: row for row in rows}
    assert all(by_id[each.request_id]["output_tokens"] == each.tokens for each in seen)
    assert {row["outcome"] for row in rows} == {"completed"}


@pytest.mark.parametrize("times", [2, pytest.param(5, marks=pytest.mark.long)])
async def test_upgrades_under_load_are_not_seen(serve: Serve, home: Path, times: int) -> None:
    """In a row under streams and documents: one engine throughout, nothing fails, every token is counted once."""
    agent = serve()
    ready = await asyncio.to_thread(agent.ready)
    load = Load(ready, ready["api_key"])
    engine = _engine(home)
    for _ in range(times):
        await asyncio.sleep(0.3)
        before, agent = agent, serve("--upgrade")
        again = await asyncio.to_thread(agent.ready)
        assert again["base_url"] == ready["base_url"]
        assert await asyncio.to_thread(before.process.wait, 120) == 0
    async with asyncio.timeout(120):
        while len(load.seen) <= 100:
            await asyncio.sleep(0.1)
    await asyncio.sleep(0.3)
    seen = await load.end()
    assert _engine(home) == engine
    await asyncio.to_thread(check, agent, seen)


def fronts(workers: int) -> tuple[str, str]:
    return "--front-workers", str(workers)


def workers_of(agent: Agent) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = agent.status()["front_workers"]
    return found


@pytest.mark.parametrize(("before", "after"), [(0, 2), pytest.param(2, 2, marks=pytest.mark.long), (2, 0)])
async def test_callers_change_hands_between_fronts(serve: Serve, home: Path, before: int, after: int) -> None:
    """From workers or none to workers or none, under streams and documents: nothing fails, and whoever is there now
    is called."""
    agent = serve(*fronts(before))
    ready = await asyncio.to_thread(agent.ready)
    load, engine = Load(ready, ready["api_key"], longest=300), _engine(home)
    await asyncio.sleep(0.3)
    successor = serve("--upgrade", *fronts(after))
    again = await asyncio.to_thread(successor.ready)
    assert again["base_url"] == ready["base_url"]
    assert await asyncio.to_thread(agent.process.wait, 120) == 0
    workers = await asyncio.to_thread(workers_of, successor)
    async with asyncio.timeout(120):
        while not all(each["connections"] for each in workers):
            await asyncio.sleep(0.05)
            workers = await asyncio.to_thread(workers_of, successor)
    assert [each["restarts"] for each in workers] == [0] * after
    await asyncio.sleep(0.3)
    seen = await load.end()
    assert _engine(home) == engine
    await asyncio.to_thread(check, successor, seen)


async def test_workers_that_die_in_an_upgrade_lose_only_what_they_had(serve: Serve, figures: Figures) -> None:
    """kill -9 of one before the callers change hands, of the other one after it, then of a new one: what they had is
    recorded as crashed and costs nothing, everything else goes on and is recorded once."""
    agent = serve(*fronts(2))
    ready = await asyncio.to_thread(agent.ready)
    first, second = [each["pid"] for each in await asyncio.to_thread(workers_of, agent)]
    load = Load(ready, ready["api_key"], longest=300)
    async with asyncio.timeout(120):
        while not all(each["open"] for each in await asyncio.to_thread(workers_of, agent)):
            await asyncio.sleep(0.01)
    successor = serve("--upgrade", *fronts(2))
    await asyncio.to_thread(agent.wait_for, "handover_begun")
    os.kill(first, signal.SIGKILL)
    await asyncio.to_thread(agent.wait_for, "front_worker_ended")
    await asyncio.to_thread(agent.wait_for, "handed_over")
    os.kill(second, signal.SIGKILL)
    await asyncio.to_thread(agent.wait_for, "front_worker_ended")
    assert await asyncio.to_thread(agent.process.wait, 120) == 0
    left = await asyncio.to_thread(successor.wait_for, "predecessor_left")
    assert (left["clean"], left["crashed"]) == (True, 0)
    os.kill((await asyncio.to_thread(workers_of, successor))[0]["pid"], signal.SIGKILL)
    async with asyncio.timeout(120):
        while [each["restarts"] for each in await asyncio.to_thread(workers_of, successor)] != [1, 0]:
            await asyncio.sleep(0.05)
    later = len(load.seen) + 40
    async with asyncio.timeout(120):
        while len(load.seen) < later:
            await asyncio.sleep(0.05)
    seen = await load.end()
    await asyncio.to_thread(successor.command, "spool", "flush")
    rows = await asyncio.to_thread(successor.usage)
    by_id = {row["request_id"]: row for row in rows}
    whole = [each for each in seen if not each.error]
    assert {by_id[each.request_id]["outcome"] for each in whole} == {"completed"}
    assert all(by_id[each.request_id]["output_tokens"] == each.tokens for each in whole)
    outcomes = Counter(row["outcome"] for row in rows)
    assert outcomes.keys() == {"completed", "agent_crash"}
    assert {row["debit_micro_usd"] for row in rows if row["outcome"] == "agent_crash"} == {0}
    spool = (await asyncio.to_thread(successor.status))["spool"]
    assert spool["open"] == 0
    figures([str(each.request_id) for each in whole], [row["request_id"] for row in rows])


def hang_a_worker(agent: Agent) -> None:
    """Its workers start; one never comes up, and the other one has time to."""
    main, deadline = psutil.Process(agent.process.pid), time.monotonic() + 120
    while not (found := [each for each in main.children() if each.cmdline()[1:] == FRONT]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found[0].suspend()  # as soon as it is seen, before it can be up
    time.sleep(3.0)


@pytest.mark.parametrize(
    ("moment", "workers"),
    [
        pytest.param("handover_begun", 0, marks=pytest.mark.long),
        ("port_opened", 0),
        pytest.param("registered", 0, marks=pytest.mark.long),
        ("workers", 2),
    ],
)
async def test_a_successor_that_dies_half_way_is_not_missed(
    serve: Serve, home: Path, moment: str, workers: int
) -> None:
    """kill -9 after it was given the spool, after it has opened it, under its own epoch, when one of its workers is up
    and the other is not: the first one goes on."""
    slow = (
        "--slow-token",
        "0.25",
    )  # it serves once it has asked its canary: that takes longer than to be killed
    agent = serve(engine=slow)
    ready = await asyncio.to_thread(agent.ready)
    load = Load(ready, ready["api_key"])
    engine = _engine(home)
    await asyncio.sleep(0.3)
    successor = serve("--upgrade", *fronts(workers), engine=slow)
    if moment == "workers":
        await asyncio.to_thread(hang_a_worker, successor)
    else:
        await asyncio.to_thread((agent if moment == "handover_begun" else successor).wait_for, moment)
    successor.kill()
    await asyncio.to_thread(agent.wait_for, "handover_failed")
    await asyncio.to_thread(agent.wait_for, "registered")
    await asyncio.sleep(0.5)
    successor = serve("--upgrade", *fronts(workers), engine=slow)
    await asyncio.to_thread(successor.ready)
    assert await asyncio.to_thread(agent.process.wait, 120) == 0
    seen = await load.end()
    assert _engine(home) == engine
    await asyncio.to_thread(check, successor, seen)


async def test_what_a_killed_agent_had_still_open_ends_as_a_crash(serve: Serve) -> None:
    """It has handed over and relays one last stream when it dies: one record, no debit."""
    agent = serve(engine=("--slow-token", "0.2"))
    ready = await asyncio.to_thread(agent.ready)
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {ready['api_key']}"}) as session:
        url = ready["base_url"] + "/chat/completions"
        last = asyncio.create_task(call(session, url, stream=True, tokens=600))
        async with asyncio.timeout(120):
            while (await asyncio.to_thread(agent.status))["spool"]["open"] != 1:
                await asyncio.sleep(0.05)
        successor = serve("--upgrade", engine=("--slow-token", "0.2"))
        await asyncio.to_thread(agent.wait_for, "handed_over")
        agent.kill()
        assert (await last).error
        left = await asyncio.to_thread(successor.wait_for, "predecessor_left")
        assert (left["clean"], left["crashed"]) == (False, 1)
        assert (await call(session, url, stream=True)).error == ""
    rows = await asyncio.to_thread(successor.usage)
    assert sorted(row["outcome"] for row in rows) == ["agent_crash", "completed"]
    assert {row["outcome"]: row["debit_micro_usd"] > 0 for row in rows} == {
        "agent_crash": False,
        "completed": True,
    }


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.long), 2])
async def test_an_upgrade_under_tls_is_not_seen(
    serve: Serve, home: Path, tmp_path: Path, workers: int
) -> None:
    """A connection that is encrypted ends after its next answer, and the next one meets the new agent."""
    made = make_certificate(tmp_path)
    files = {"PARETA_FRONT_TLS_CERT_FILE": str(made.pem), "PARETA_FRONT_TLS_KEY_FILE": str(made.key)}
    agent = serve(*fronts(workers), **files)
    ready = await asyncio.to_thread(agent.ready)
    assert ready["base_url"].startswith("https://")
    load, engine = Load(ready, ready["api_key"], made.pem), _engine(home)
    await asyncio.sleep(0.3)
    successor = serve("--upgrade", *fronts(workers), **files)
    await asyncio.to_thread(successor.ready)
    assert await asyncio.to_thread(agent.process.wait, 120) == 0
    seen = await load.end()
    assert _engine(home) == engine
    await asyncio.to_thread(check, successor, seen)


@pytest.mark.long
async def test_a_successor_that_hangs_is_ended(serve: Serve, home: Path) -> None:
    """It is never ready: after half a minute the first agent takes everything back, says so, and serves on."""
    agent = serve()
    ready = await asyncio.to_thread(agent.ready)
    load, engine = Load(ready, ready["api_key"]), _engine(home)
    successor = serve("--upgrade")
    await asyncio.to_thread(successor.wait_for, "port_opened")
    successor.process.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(agent.wait_for, "handover_failed", 60.0)
    await asyncio.to_thread(agent.wait_for, "registered")
    assert await asyncio.to_thread(successor.process.wait, 10) == -signal.SIGKILL
    await asyncio.sleep(0.5)
    seen = await load.end()
    assert _engine(home) == engine
    await asyncio.to_thread(check, agent, seen)


async def test_an_upgrade_that_changes_the_engine_lets_it_finish(serve: Serve, home: Path) -> None:
    """Its streams end whole before it does; calls that come meanwhile wait for the engine that takes its place."""
    agent = serve()
    ready = await asyncio.to_thread(agent.ready)
    load, engine = Load(ready, ready["api_key"]), _engine(home)
    await asyncio.sleep(0.3)
    successor = serve("--upgrade", engine=("--slow-token", "0.012"))
    await asyncio.to_thread(successor.ready)
    assert await asyncio.to_thread(agent.process.wait, 120) == 0
    await asyncio.sleep(0.3)
    seen = await load.end()
    assert _engine(home) != engine
    await asyncio.to_thread(check, successor, seen)


@contextmanager
def systemd() -> Iterator[tuple[str, list[str]]]:
    """What NOTIFY_SOCKET is to be, and what was said there."""
    said: list[str] = []
    address = f"pareta-{os.getpid()}"

    def listen() -> None:
        while (word := heard.recv(4096).decode()) != "over":
            said.append(word)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{address}")
        reader = threading.Thread(target=listen)
        reader.start()
        try:
            yield f"@{address}", said
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"over", f"\0{address}")
            reader.join()


async def test_a_reload_starts_the_next_agent_and_tells_systemd(home: Path) -> None:
    """SIGUSR2: the same command line as it is on disk now; the service's main process is the new one."""
    with systemd() as (address, said):
        agent = Agent(home, settings={"PARETA_ENGINE_COMMAND": fake_engine(), "NOTIFY_SOCKET": address})
        first = await asyncio.to_thread(agent.ready)
        os.kill(first["pid"], signal.SIGUSR2)
        assert await asyncio.to_thread(agent.process.wait, 120) == 0
        async with asyncio.timeout(120):
            while len(readies := [event for event in agent.events if event["event"] == "ready"]) < 2:
                await asyncio.sleep(0.05)
        second = readies[1]
        assert [word for word in said if word.startswith("MAINPID=")] == [f"MAINPID={second['pid']}"]
        found = processes.stat(second["pid"])
        assert found is not None
        os.kill(second["pid"], signal.SIGTERM)
        async with asyncio.timeout(120):
            await processes.Process(found.pid, found.started).wait()
        agent.__exit__()
    assert processes_of(home) == []


def _engine(home: Path) -> tuple[int, int]:

    intent = json.loads((home / "engines" / f"{ENDPOINT}-0.intent").read_text())
    return intent["pid"], intent["started"]
