"""Standard output and error fail, fill, stall or are closed: the node serves, meters, is replaced and ends as ever."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fakes.ports import free_port
from harness import AGENT, engines_of, environment, fake_engine, processes_of

pytestmark = pytest.mark.slow

ENDPOINT = "ep_contract_kie"
SINKS = ("broken", "full", "slow", "closed")


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Node:
    """`serve` whose output and error both go to a sink of one kind; nobody ever reads what it says."""

    def __init__(self, home: Path, sink: str, *flags: str) -> None:
        self.home, self.port = home, free_port()
        self.env = environment(home, PARETA_ENGINE_COMMAND=fake_engine(), PARETA_LOG_LEVEL="debug")
        argv = [*AGENT, "serve", "--port", str(self.port), *flags]
        reader, writer = os.pipe()
        if sink == "slow":
            os.write(
                writer, b"x" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
            )  # full from the start, and never read
        if sink == "full":
            os.close(writer)
            writer = os.open("/dev/full", os.O_WRONLY)
        if sink == "closed":
            argv = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *argv]
        self.process = subprocess.Popen(
            argv, env=self.env, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer
        )
        os.close(writer)
        if sink == "broken":
            os.read(reader, 1)  # as `| head -c 1` does: the reader leaves once it has something
            os.close(reader)
        else:
            self._reader = reader  # open, and never read
        self.key = ""

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=120).status_code == 200
        except httpx.HTTPError:
            return False

    def command(self, *argv: str) -> str:
        return subprocess.run(
            [*AGENT, *argv], env=self.env, capture_output=True, text=True, timeout=120, check=True
        ).stdout

    def status(self) -> dict:
        return dict(json.loads(self.command("status", "--json")))

    def call(self, _: int = 0) -> str:
        """A streamed call, whole; its request id."""
        answer = httpx.post(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json={"model": ENDPOINT, "messages": [{"role": "user", "content": "Hi"}], "stream": True},
            headers={"authorization": f"Bearer {self.key}"},
            timeout=120,
        )
        assert (answer.status_code, answer.text[-14:]) == (200, "data: [DONE]\n\n")
        return answer.headers["x-request-id"]

    def load(self) -> list[str]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(self.call, range(64)))

    def series(self, name: str) -> dict[str, float]:
        """By sink."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=120).text
        return {sink: float(value) for sink, value in re.findall(name + r'\{sink="(\w+)"\} (\S+)', text)}


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def begin(sink: str, *flags: str) -> Node:
        nodes.append(Node(home, sink, *flags))
        until(lambda: nodes[-1].ready() or nodes[-1].process.poll() is not None, "it is ready, or has ended")
        assert nodes[-1].process.poll() is None
        nodes[-1].key = json.loads(nodes[-1].command("keys", "create", "--json"))["api_key"]
        return nodes[-1]

    yield begin
    for node in nodes:
        node.process.terminate()
        node.process.wait(120)
    assert processes_of(home) == []


def kill_engine(node: Node) -> None:
    """Many events follow: it ended, another one starts, it is live."""
    before = engines_of(node.home)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: bool(engines_of(node.home) - before) and node.ready(), "another engine serves")


@pytest.mark.parametrize(
    ("sink", "form"),
    [
        *((sink, ("--json",)) for sink in SINKS if sink != "full"),
        pytest.param("full", ("--json",), marks=pytest.mark.long),
        pytest.param("slow", (), marks=pytest.mark.long),
        pytest.param("broken", (), marks=pytest.mark.long),
    ],
)
def test_a_log_that_nobody_takes_stops_no_call(serve, sink, form):
    """Before and after an engine's death that is told at length, every call under load is answered and metered."""
    node = serve(sink, *form)
    ids = node.load()
    kill_engine(node)
    ids += node.load()
    assert node.process.poll() is None
    node.process.send_signal(signal.SIGHUP)  # of a terminal that was closed: no reason to end
    ids.append(node.call())
    waiting, failures = node.series("pareta_sink_waiting_bytes"), node.series("pareta_sink_errors_total")
    told = "stdout" if form else "stderr"
    assert waiting[told] > 0
    assert (failures[told] > 0) == (sink != "slow")
    rows = [json.loads(line) for line in node.command("usage", "--json").splitlines()]
    assert sorted(row["request_id"] for row in rows if row["outcome"] == "completed") == sorted(ids)
    node.process.terminate()
    assert node.process.wait(120) == 0


@pytest.mark.parametrize("sink", ["broken", pytest.param("slow", marks=pytest.mark.long)])
def test_an_agent_without_a_log_is_replaced(serve, sink):
    """The next agent and its front worker inherit the streams, and serve."""
    node = serve(sink, "--json", "--front-workers", "1")
    ids = node.load()
    node.process.send_signal(signal.SIGUSR2)
    assert node.process.wait(300) == 0
    successor = node.status()["pid"]
    ids += node.load()
    assert node.series("pareta_sink_waiting_bytes")["stdout"] > 0
    rows = [json.loads(line) for line in node.command("usage", "--json").splitlines()]
    assert sorted(row["request_id"] for row in rows) == sorted(ids)
    os.kill(successor, signal.SIGTERM)
    until(lambda: processes_of(node.home) == [], "it ended")
