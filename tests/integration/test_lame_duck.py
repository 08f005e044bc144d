"""A node that stops behind a load balancer: nobody who goes by `/readyz` sees an error, and no POST is retried."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import balancers
from fakes.ports import free_port
from harness import AGENT, Agent, environment, fake_engine

from pareta_agent.clock import SystemClock
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.seed import SeedEndpoint
from pareta_agent.plane.store.database import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ENDPOINT, ORG = "ep_shared", "org_shared"
WORKERS = pytest.mark.parametrize("workers", ["0", "2"])


def ask(root: str, key: str, name: str, client: Any = httpx, **more: object) -> httpx.Response:
    body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, **more}
    headers = {"authorization": f"Bearer {key}"}
    answer: httpx.Response = client.post(
        f"{root}/v1/chat/completions", json=body, headers=headers, timeout=120
    )
    return answer


def root_of(ready: dict[str, Any]) -> str:
    return str(ready["base_url"].removesuffix("/v1"))


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_ready(root: str) -> bool:
    return httpx.get(f"{root}/readyz", timeout=120).status_code == 200


@WORKERS
def test_a_lame_duck_admits_and_says_that_it_goes(start: Callable[..., Agent], workers: str) -> None:
    """Not ready, each answer the last on its connection, and all calls answered; a second signal begins the drain, in
    which what was admitted has its time."""
    agent = start("--slow-token", "0.3", PARETA_FRONT_LAME_DUCK_S="3600", PARETA_FRONT_WORKERS=workers)
    ready = agent.ready()
    root, name = root_of(ready), ready["endpoints"][0]["id"]
    assert "connection" not in ask(root, ready["api_key"], name).headers
    agent.process.send_signal(signal.SIGTERM)
    until(lambda: not is_ready(root))
    assert httpx.get(f"{root}/readyz", timeout=120).json()["reasons"] == ["stopping"]
    assert httpx.get(f"{root}/livez", timeout=120).status_code == 200
    headers = {"authorization": f"Bearer {ready['api_key']}"}
    for answer in (
        ask(root, ready["api_key"], name),
        ask(root, ready["api_key"], name, stream=True),
        ask(root, "pareta_sk_unknown", name),
        httpx.get(f"{root}/v1/models", headers=headers, timeout=120),
    ):
        assert (answer.status_code in (200, 401), answer.headers["connection"]) == (True, "close")
    with ThreadPoolExecutor(1) as caller:
        last = caller.submit(ask, root, ready["api_key"], name, max_tokens=8)
        until(lambda: agent.open_on_disk() == 1)
        agent.process.send_signal(signal.SIGTERM)
        assert last.result(120).status_code == 200
    assert agent.process.wait(120) == 0
    assert {row["outcome"] for row in agent.usage()} == {"completed"}


def test_without_one_a_stop_drains_at_once(start: Callable[..., Agent]) -> None:
    """The default: no call is admitted after the signal."""
    agent = start()
    agent.ready()
    assert agent.stop() == 0
    assert not [event for event in agent.events if event["event"] == "lame_duck"]


@WORKERS
def test_who_goes_by_readyz_sees_no_error(start: Callable[..., Agent], workers: str) -> None:
    """Callers with connections of their own, kept alive, each of whom asks before each call whether it may."""
    agent = start("--slow-token", "0.02", PARETA_FRONT_LAME_DUCK_S="3600", PARETA_FRONT_WORKERS=workers)
    ready = agent.ready()
    root, name = root_of(ready), ready["endpoints"][0]["id"]

    statuses: list[int] = []

    def calls(_number: int) -> None:
        with httpx.Client(timeout=120) as client:
            while client.get(f"{root}/readyz").status_code == 200:
                statuses.append(ask(root, ready["api_key"], name, client).status_code)

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(calls, number) for number in range(8)]
        until(lambda: len(statuses) > 16)
        agent.process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.result(120)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(120) == 0
    assert set(statuses) == {200}


@dataclass
class Callers:
    """Eight of them, through a balancer, until `over`; each call on a connection of its own, none is tried twice."""

    root: str
    key: str
    over: threading.Event = field(default_factory=threading.Event)
    good: int = 0
    wrong: list[object] = field(default_factory=list)

    def run(self, number: int) -> None:
        turn = number
        while not self.over.wait(0.1):
            turn += 1
            try:
                answer = ask(self.root, self.key, ENDPOINT, stream=bool(turn % 2))
                if answer.status_code == 200 and (turn % 2 == 0 or "[DONE]" in answer.text):
                    self.good += 1
                else:
                    self.wrong.append((answer.status_code, answer.text))
            except httpx.HTTPError as error:
                self.wrong.append(repr(error))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[list[Agent], str]]:
    """Two nodes of one plane that serve the same endpoint, and a key for it; the first one has front workers."""
    home = tmp_path / "plane"
    with subprocess.Popen(
        [*AGENT, "plane", "serve", "--port", "0"], env=environment(home), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        database = Database(f"sqlite:///{home / 'plane' / 'plane.db'}")
        plane = Plane.on(database, SystemClock())
        plane.orgs.ensure(ORG, 10**9)
        plane.desired_state.replace(
            [SeedEndpoint(id=ENDPOINT, task="contract-key-fields", alias="contract-kie-1").wanted(ORG)]
        )
        key = plane.keys.mint(ORG).secret
        agents = []
        for number, name in enumerate("ab"):
            token = tmp_path / f"{name}.token"
            token.write_text(f"token-of-{name}")
            plane.nodes.ensure(name, token.read_text())
            told = {
                "PARETA_ENGINE_COMMAND": fake_engine("--slow-token", "0.02"),
                "PARETA_NODE": name,
                "PARETA_PLANE_URL": address,
                "PARETA_PLANE_TOKEN_FILE": str(token),
                "PARETA_FRONT_LAME_DUCK_S": "10",
                "PARETA_FRONT_WORKERS": "0" if number else "2",
            }
            agents.append(Agent(tmp_path / name, settings=told))
        database.close()
        try:
            yield agents, key
        finally:
            for agent in agents:
                agent.__exit__()
            process.terminate()


@pytest.mark.parametrize("name", ["haproxy", "nginx", "envoy"])
def test_a_node_that_stops_behind_a_balancer_costs_nobody_an_error(
    pair: tuple[list[Agent], str], tmp_path: Path, name: str
) -> None:
    """SIGTERM under load, with the lame duck of the systemd unit: every call has its answer, at the first try."""
    if not balancers.installed(name):
        pytest.skip(f"{name} is not installed (make tools)")
    (stopped, other), key = pair
    ports = [
        int(agent.ready()["base_url"].removesuffix("/v1").rpartition(":")[2]) for agent in (stopped, other)
    ]
    port = free_port()
    with getattr(balancers, name)(tmp_path, port, *ports):
        callers = Callers(f"http://127.0.0.1:{port}", key)
        until(lambda: _answers(callers))
        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(callers.run, number) for number in range(8)]
            until(lambda: callers.good > 50)
            stopped.process.send_signal(signal.SIGTERM)
            assert stopped.process.wait(120) == 0
            until(lambda before=callers.good: callers.good > before + 20)
            callers.over.set()
            for each in running:
                each.result(120)
    assert callers.wrong == []


def _answers(callers: Callers) -> bool:
    """Whether the balancer is up and has seen a node."""
    try:
        return ask(callers.root, callers.key, ENDPOINT).status_code == 200
    except httpx.HTTPError:
        return False
