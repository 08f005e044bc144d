"""A whole agent as its users have it: the program, its JSON lines, its port. Nothing is reached from inside."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

import httpx

from pareta_agent.config import run_dir
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.meter.settings import spool_path

TESTS = Path(__file__).parent
AGENT = [sys.executable, "-m", "pareta_agent"]
FAKE_ENGINE = TESTS / "fakes" / "engine.py"


def fake_engine(*flags: str) -> str:
    """A value for PARETA_ENGINE_COMMAND: the fake engine, misbehaving as told."""
    return " ".join([sys.executable, str(FAKE_ENGINE), *flags])


def environment(home: Path, **settings: str) -> dict[str, str]:
    """This machine's environment without settings of ours, then `settings`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PARETA_")}
    if cache := os.environ.get("PARETA_CACHE"):
        clean["PARETA_CACHE"] = cache
    return {**clean, "PARETA_HOME": str(home), **settings}


class Said:
    """What a program prints, an event a line: read as it comes, so that it never waits for its reader."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.queue: Queue[dict[str, Any]] = Queue()
        self._pipe = pipe
        self._ended = False
        self._rest = b""
        self._events: list[dict[str, Any]] = []
        self._reading = threading.Lock()
        os.set_blocking(pipe.fileno(), False)
        self.reader = threading.Thread(target=self._follow, daemon=True)
        self.reader.start()

    def so_far(self) -> list[dict[str, Any]]:
        """All of it up to now, with what still lies in the pipe."""
        self._take()
        return list(self._events)

    def left(self) -> bool:
        """Whether there is something that nobody took, with what still lies in the pipe."""
        self._take()
        return not self.queue.empty()

    def _follow(self) -> None:
        poll = select.poll()
        poll.register(self._pipe)
        while not self._ended:
            poll.poll()
            self._take()
        self._pipe.close()

    def _take(self) -> None:
        with self._reading:
            while not self._ended:
                try:
                    piece = os.read(self._pipe.fileno(), 1 << 16)
                except BlockingIOError:
                    return
                self._ended = not piece
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    self._events.append(json.loads(line))
                    self.queue.put(self._events[-1])


class Agent:
    """`pareta-agent serve --json --port 0` under `home`, until `stop`."""

    def __init__(
        self, home: Path, *flags: str, settings: dict[str, str] | None = None, port: int = 0
    ) -> None:
        self.home = home
        self.env = environment(home, **(settings or {}))
        self._stderr = (home.parent / f"{home.name}.stderr").open("ab")
        self.process = subprocess.Popen(
            [*AGENT, "serve", "--json", "--port", str(port), *flags],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        assert self.process.stdout is not None
        self._said = Said(self.process.stdout)

    @property
    def events(self) -> list[dict[str, Any]]:
        """All that it has said, and surely what it said before it gave the last answer."""
        return self._said.so_far()

    def wait_for(self, name: str, timeout_s: float = 120.0) -> dict[str, Any]:
        """The next event called `name`; fails with what the agent said when it ends or the time is up."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                event = self._said.queue.get(timeout=0.1)
            except Empty:
                if self.process.poll() is not None and not self._said.left():
                    break
                continue
            if event["event"] == name:
                return event
        raise AssertionError(
            f"no {name!r} in {timeout_s} s (exit {self.process.poll()}):\n{self.stderr()[-4000:]}"
        )

    def ready(self, timeout_s: float = 120.0) -> dict[str, Any]:
        return self.wait_for("ready", timeout_s)

    def stderr(self) -> str:
        return (self.home.parent / f"{self.home.name}.stderr").read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 120.0) -> int:
        """Sends the signal and waits for the end; the exit code. One that does not end is killed, with all it left."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            kill_all(self.home)
            raise
        self._said.reader.join(60)
        self._stderr.close()
        return code

    def kill(self) -> None:
        """kill -9 of the agent alone, as the OOM killer would."""
        self.stop(signal.SIGKILL)

    def successor(self) -> Agent:
        """The next agent of this home, with the same settings, which begins to take over."""
        told = {name: value for name, value in self.env.items() if name.startswith("PARETA_")}
        return Agent(self.home, "--upgrade", settings=told)

    def upgrade(self) -> None:
        """A successor takes this one's place, here too; without a trace where it does not come up."""
        successor = self.successor()
        try:
            successor.ready()
            assert self.process.wait(120) == 0
        except BaseException:
            successor.kill()
            raise
        self.stop()
        vars(self).update(vars(successor))

    def command(self, *argv: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Another `pareta-agent` command under the same home."""
        return subprocess.run(
            [*AGENT, *argv], env=self.env, capture_output=True, text=True, timeout=timeout_s
        )

    def status(self) -> dict[str, Any]:
        """What `pareta-agent status --json` prints, from where it has it: polls start no program each time."""
        transport = httpx.HTTPTransport(uds=str(run_dir(self.home) / "agent.sock"), verify=False)
        with httpx.Client(transport=transport, timeout=120) as client:
            return dict(client.get("http://node/status").json())

    def usage(self) -> list[dict[str, Any]]:
        """The ledger's rows, once a running node's records are all there, which may take longer than one asking."""
        deadline = time.monotonic() + 120
        while True:
            done = self.command("usage", "--json")
            assert done.returncode == 0, done.stderr
            missing = re.search(r"not in the ledger: [1-9]", done.stderr)
            if not missing or self.process.poll() is not None or time.monotonic() > deadline:
                return [json.loads(line) for line in done.stdout.splitlines()]

    def open_on_disk(self) -> int:
        """Requests that the spool would know as open if everything were killed now."""
        with closing(SpoolReader(spool_path(self.home))) as reader:
            return reader.open_requests()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def processes_of(home: Path) -> list[str]:
    """Command lines of living processes that belong to `home`: its engines, its plane, the agent itself."""
    return list(_living(home).values())


def kill_all(home: Path) -> None:
    """Ends them all, for a test that failed."""
    while pids := _living(home):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _living(home: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if str(home).encode() in text and state not in "ZX":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def engines_of(home: Path) -> set[int]:
    """The pids of the fake engines that run for `home`."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"fakes/engine.py" in line and str(home).encode() in line:
            found.add(int(entry.name))
    return found


def endpoint(agent: Agent, name: str = "ep_contract_kie") -> dict[str, Any]:
    """What `pareta-agent status` says of it."""
    return next(each for each in agent.status()["endpoints"] if each["id"] == name)


def until(
    agent: Agent,
    holds: Callable[[dict[str, Any]], bool],
    name: str = "ep_contract_kie",
    timeout_s: float = 120.0,
) -> dict[str, Any]:
    """The endpoint's status once it is as asked; what it was when the time is up."""
    deadline = time.monotonic() + timeout_s
    while not holds(seen := endpoint(agent, name)):
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    return seen
