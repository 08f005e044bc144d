"""kill -9, again and again: `python -m moneylab.kills --lives 1000`. A life is a fork: a thousand take minutes."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fakes.ports import free_port

from moneylab.life import ENDPOINT, NODE, ORG, Ways, drain, live
from moneylab.oracle import Verdict, judge
from pareta_agent.plane import embedded
from pareta_agent.plane.plane import open_plane

BALANCE = 10**15

POINTS = (
    ("INSERT OR REPLACE INTO admitted", "before", 3),
    ("INSERT OR REPLACE INTO admitted", "after", 3),
    ("INSERT INTO events", "before", 5),
    ("INSERT INTO events", "after", 5),
    ("INSERT INTO staged", "after", 0),
    ("DELETE FROM staged", "after", 0),
    ("DELETE FROM admitted", "after", 2),
    ("COMMIT", "before", 0),
    ("COMMIT", "after", 0),
    ("COMMIT", "before", 9),
    ("COMMIT", "after", 9),
    ("INSERT INTO epochs", "before", 0),
    ("INSERT INTO epochs", "after", 0),
    ("send", "before", 2),
    ("send", "after", 2),
    ("UPDATE epochs SET acked_seq", "before", 1),
    ("UPDATE epochs SET acked_seq", "after", 1),
    ("DELETE FROM events", "before", 0),
    ("DELETE FROM events", "after", 0),
)


@dataclass(slots=True)
class Lab:
    """A home, a plane beside it, and the file of what clients saw."""

    home: Path
    plane: embedded.EmbeddedPlane
    seen: int
    lives: int = 0
    killed: int = 0
    missed: list[str] = field(default_factory=list)

    def _until_it_sends(self) -> None:
        size, give_up_s = os.fstat(self.seen).st_size, time.monotonic() + 120.0
        while os.fstat(self.seen).st_size == size and time.monotonic() < give_up_s:
            time.sleep(0.001)

    def one(self, ways: Ways, lifetime_s: float) -> bool:
        """A life that ends by SIGKILL, its own or ours; whether it was its own."""
        self.lives += 1
        pid = os.fork()
        if pid == 0:
            try:
                live(self.home, self.plane.url, self.plane.node_token, self.seen, self.lives, ways)
            finally:
                os._exit(70)
        if ways.under_load:
            self._until_it_sends()
        begun_s = time.monotonic()
        end_s = begun_s + lifetime_s
        plane_end_s = float("inf") if ways.plane_dies_after_s is None else begun_s + ways.plane_dies_after_s
        died = status = 0
        while not died and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.01))
            if time.monotonic() > plane_end_s:
                os.kill(self.plane.process.pid, signal.SIGKILL)
                plane_end_s = float("inf")
            died, status = os.waitpid(pid, os.WNOHANG)
        if not died:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            raise RuntimeError(f"life {self.lives} ended by itself with {os.WEXITSTATUS(status)}")
        self.killed += 1
        if ways.die_at is not None and not died:
            self.missed.append(" ".join(map(str, ways.die_at)))
        return bool(died)


def attack(home: Path, lives: Iterable[tuple[Ways, float]]) -> tuple[Verdict, dict[str, object]]:
    """Goes through the lives, lets the spool drain, and judges."""
    runner = asyncio.Runner()
    seed = embedded.Seed(
        node=NODE,
        org=ORG,
        balance_micro_usd=BALANCE,
        endpoints=(embedded.SeedEndpoint(id=ENDPOINT, task="t", alias="a"),),
    )
    port = free_port()  # for all of its lives
    plane = runner.run(embedded.start(home, seed, port))
    seen = os.open(home / "seen", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    lab = Lab(home, plane, seen)
    at_a_point = plane_kills = 0
    try:
        for ways, lifetime_s in lives:
            at_a_point += lab.one(ways, lifetime_s)
            if ways.plane_dies_after_s is not None:
                runner.run(plane.process.kill_group())
                plane = lab.plane = runner.run(embedded.start(home, seed, port))
                plane_kills += 1
        pid = os.fork()
        if pid == 0:
            try:
                drain(home, plane.url, plane.node_token, timeout_s=300.0)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    finally:
        os.close(seen)
        runner.run(plane.stop())
        runner.close()
    _, database = open_plane(home)
    try:
        verdict = judge(home / "seen", home / "spool.db", database, ORG, BALANCE)
    finally:
        database.close()
    return verdict, {
        "lives": lab.lives,
        "kills": lab.killed,
        "kills_at_a_named_point": at_a_point,
        "points_missed": lab.missed,
        "plane_kills": plane_kills,
    }


def random_lives(count: int, longest_s: float = 0.15) -> Iterable[tuple[Ways, float]]:
    """Deaths at any moment, many of them while the last death is still being recovered from."""
    for _ in range(count):
        under_load = random.random() < 0.75
        yield Ways(under_load=under_load), random.uniform(0.0, longest_s if under_load else 0.1)


def recovery_lives(count: int) -> Iterable[tuple[Ways, float]]:
    """After a death under load, four more while what it left is being recovered, each a little later than the last."""
    for _ in range(count):
        yield Ways(), 0.08
        for step in range(4):
            yield Ways(under_load=False), random.uniform(0.0, 0.02 * (step + 1))


def pointed_lives(repeats: int) -> Iterable[tuple[Ways, float]]:
    """A death at every named point, each after a life that leaves work behind."""
    for _ in range(repeats):
        for sql, when, passes in POINTS:
            yield Ways(), 0.08
            yield Ways(die_at=(sql, when, passes), keep_acked_s=0.0, under_load=False), 3.0


def plane_lives(count: int) -> Iterable[tuple[Ways, float]]:
    """The plane dies under a living node, and then the node dies too."""
    for _ in range(count):
        yield Ways(plane_dies_after_s=random.uniform(0.05, 0.4)), random.uniform(0.4, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--recoveries", type=int, default=0)
    parser.add_argument("--points", type=int, default=0, help="rounds through the named points")
    parser.add_argument("--planes", type=int, default=0, help="deaths of the plane")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        lives = [*random_lives(options.lives), *recovery_lives(options.recoveries)]
        lives += [*pointed_lives(options.points), *plane_lives(options.planes)]
        verdict, counts = attack(Path(home), lives)
    json.dump({**counts, **verdict.as_dict()}, sys.stdout, indent=2)
    sys.exit(0 if verdict.sound else 1)


if __name__ == "__main__":
    main()
