"""kill -9 of the agent: its engine serves on, and the next agent takes it over under load."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.ports import free_port
from harness import Agent, fake_engine, processes_of

from pareta_agent import processes

ENDPOINT = "ep_contract_kie"
PATIENCE_S = 30.0


@pytest.fixture
def node(home: Path) -> Iterator[Callable[..., Agent]]:
    """Starts one agent after the other, all on the same port."""
    port = free_port()
    agents: list[Agent] = []

    def begin(*flags: str) -> Agent:
        command = {"PARETA_ENGINE_COMMAND": fake_engine(*flags)}
        agents.append(Agent(home, "--drain-timeout", "2", settings=command, port=port))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.__exit__()
    assert processes_of(home) == []


def engine_of(home: Path) -> dict[str, Any]:
    return json.loads((home / "engines" / f"{ENDPOINT}-0.intent").read_text())


def ask(ready: dict[str, Any], key: str) -> httpx.Response:
    body = {"model": ENDPOINT, "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 4}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{ready['base_url']}/chat/completions", json=body, headers=headers, timeout=PATIENCE_S)


class Load:
    """Callers that ask again and again; each answer's status or the error's name, with its begin and end."""

    def __init__(self, ready: dict[str, Any], key: str, callers: int = 3) -> None:
        self.seen: list[tuple[str, float, float]] = []
        self.killed_s: list[float] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(ready, key)) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def _run(self, ready: dict[str, Any], key: str) -> None:
        while not self._stop.is_set():
            begun_s = time.monotonic()
            try:
                said = str(ask(ready, key).status_code)
            except httpx.HTTPError as error:
                said = type(error).__name__
                time.sleep(0.05)
            self.seen.append((said, begun_s, time.monotonic()))

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def kill_and_start_again(node: Callable[..., Agent], rounds: int) -> tuple[set[int], Load, Agent]:
    agent = node("--slow-token", "0.01")
    ready = agent.ready()
    key, load = ready["api_key"], Load(ready, ready["api_key"])
    pids = {engine_of(agent.home)["pid"]}
    try:
        for _ in range(rounds):
            time.sleep(0.2)
            load.killed_s.append(time.monotonic())
            agent.kill()
            agent = node("--slow-token", "0.01")
            agent.ready()
            pids.add(engine_of(agent.home)["pid"])
    finally:
        load.end()
    assert ask(ready, key).status_code == 200
    return pids, load, agent


def check(pids: set[int], load: Load, agent: Agent) -> None:
    """One engine throughout; every call got an answer or a typed error, in whose midst a death was long before it would
    have given up."""
    assert len(pids) == 1
    assert {said for said, _, _ in load.seen} <= {
        "200",
        "503",
        "ConnectError",
        "ReadError",
        "WriteError",
        "RemoteProtocolError",
    }
    caught_s = [end - kill for kill in load.killed_s for _, begin, end in load.seen if begin < kill < end]
    assert 0.0 < max(caught_s) < PATIENCE_S / 2
    rows = agent.usage()
    assert len({row["request_id"] for row in rows}) == len(rows)
    completed = sum(row["outcome"] == "completed" for row in rows)
    assert completed >= sum(said == "200" for said, _, _ in load.seen)
    assert all(row["debit_micro_usd"] == 0 for row in rows if row["outcome"] != "completed")


@pytest.mark.slow
def test_a_killed_agent_takes_its_engine_over_again(node: Callable[..., Agent]) -> None:
    """Three times under load: the same process, callers hear an error at once or wait, no row twice."""
    check(*kill_and_start_again(node, 3))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_times(node: Callable[..., Agent]) -> None:
    """The same fifty times in a row."""
    check(*kill_and_start_again(node, 50))


@pytest.mark.slow
def test_an_engine_that_is_no_longer_wanted_is_ended(node: Callable[..., Agent], home: Path) -> None:
    """The next agent serves another endpoint: the old one's engine goes after the first reconciliation."""
    agent = node()
    agent.ready()
    agent.kill()
    engine = engine_of(home)
    (home / "config.toml").write_text('endpoint = "ep_other"\n')
    agent = node()
    states = {endpoint["id"]: endpoint["status"] for endpoint in agent.ready()["endpoints"]}
    assert states == {"ep_other": "live", ENDPOINT: "stopped"}
    assert processes.adopt(engine["pid"], engine["started"]) is None
