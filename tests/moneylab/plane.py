"""A plane in the test's own process: the real API on a real database, with a liar in between."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson

from pareta_agent.clock import Clock
from pareta_agent.contract import wire
from pareta_agent.control.plane_client import EventsAnswer
from pareta_agent.errors import PlaneError
from pareta_agent.plane.api.node_api import create_app
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.seed import SeedEndpoint
from pareta_agent.plane.store.database import Database

NODE, ORG, ENDPOINT, BALANCE = "n", "org", "ep", 10**12

Fault = Callable[["LabPlane", list[bytes]], Any]


class LabPlane:
    """`events` is what the uplink calls. Each entry of `faults` bends one call, then the plane is honest."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.faults: deque[Fault] = deque()
        self.calls = 0
        self.resync = False
        self._open()

    def _open(self) -> None:
        self.database = Database(f"sqlite:///{self.path}")
        self.database.create()
        self.plane = Plane.on(self.database, self.clock)
        self.plane.orgs.ensure(ORG, BALANCE)
        self.plane.nodes.ensure(NODE, "token")
        self.plane.desired_state.replace([SeedEndpoint(id=ENDPOINT, task="t", alias="a").wanted(ORG)])
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=create_app(self.plane)),
            base_url="http://plane",
            headers={"Authorization": "Bearer token"},
        )

    def restore(self, backup: Path) -> None:
        """Goes back to an older copy of the database, under the feet of its nodes."""
        self.close()
        shutil.copy(backup, self.path)
        self._open()

    async def events(self, events: Sequence[bytes], *, resync: bool = False) -> EventsAnswer:
        self.calls += 1
        self.resync = resync
        fault = self.faults.popleft() if self.faults else honest
        answer: EventsAnswer = await fault(self, list(events))
        return answer

    async def post(self, events: list[bytes]) -> EventsAnswer:
        body = b"[" + b",".join(events) + b"]"
        url = f"/node/v1/nodes/{NODE}/events"
        answer = await self.http.post(url, params={"resync": self.resync}, content=body)
        return EventsAnswer(answer.status_code, answer.content, None)

    async def register(self, body: wire.Register) -> wire.Registered:
        return self.plane.nodes.register(body)

    async def heartbeat(self, body: wire.Heartbeat, timeout_s: float | None = None) -> wire.HeartbeatAnswer:
        answer = self.plane.nodes.heartbeat(body)
        if answer is None:
            raise PlaneError("plane_fenced", "fenced")
        return answer

    def close(self) -> None:
        self.database.close()


async def honest(plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    return await plane.post(events)


async def away(_plane: LabPlane, _events: list[bytes]) -> EventsAnswer:
    raise PlaneError("plane_away", "no route")


async def lost_ack(plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    """Committed, and the answer never comes."""
    await plane.post(events)
    raise PlaneError("plane_away", "cut")


async def error_500(_plane: LabPlane, _events: list[bytes]) -> EventsAnswer:
    return EventsAnswer(500, b"oops", None)


async def error_500_after_commit(plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    await plane.post(events)
    return EventsAnswer(500, b"oops", None)


async def bare_200(_plane: LabPlane, _events: list[bytes]) -> EventsAnswer:
    """A proxy that says OK to everything."""
    return EventsAnswer(200, b"<html>", None)


async def forged_hash(_plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    """An ack from somebody who never saw the bytes."""
    return _ack(orjson.loads(events[-1]), hash="00" * 32)


async def forged_future(_plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    """An ack for more than was ever written."""
    last = orjson.loads(events[-1])
    return _ack(last, acked_seq=last["sequence"] + 1000)


async def forged_epoch(_plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    last = orjson.loads(events[-1])
    return _ack(last, epoch=last["epoch"] + 1)


async def twice(plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    await plane.post(events)
    return await plane.post(events)


async def reordered(plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    return await plane.post(events[::-1])


async def tail_only(plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    """The first half got lost on the way."""
    return await plane.post(events[len(events) // 2 :])


async def bit_flipped(plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    """A count changed in transit."""
    return await plane.post([each.replace(b'"output":7', b'"output":9') for each in events])


async def too_large(_plane: LabPlane, events: list[bytes]) -> EventsAnswer:
    return EventsAnswer(413, b"", None) if len(events) > 1 else await honest(_plane, events)


async def throttled(_plane: LabPlane, _events: list[bytes]) -> EventsAnswer:
    return EventsAnswer(429, b"", 0.01)


async def unauthorized(_plane: LabPlane, _events: list[bytes]) -> EventsAnswer:
    return EventsAnswer(401, b"", None)


async def false_gap(_plane: LabPlane, _events: list[bytes]) -> EventsAnswer:
    """A 409 that asks for what was sent long ago."""
    return EventsAnswer(409, b'{"server_time":0,"expected_seq":1}', None)


async def impossible_gap(_plane: LabPlane, _events: list[bytes]) -> EventsAnswer:
    return EventsAnswer(409, b'{"server_time":0,"expected_seq":999999}', None)


ALL: tuple[Fault, ...] = (
    away,
    lost_ack,
    error_500,
    error_500_after_commit,
    bare_200,
    forged_hash,
    forged_future,
    forged_epoch,
    twice,
    reordered,
    tail_only,
    bit_flipped,
    too_large,
    throttled,
    unauthorized,
    false_gap,
    impossible_gap,
)


def _ack(event: dict[str, Any], **changed: Any) -> EventsAnswer:
    ack = {"server_time": 0.0, "epoch": event["epoch"], "acked_seq": event["sequence"], "hash": event["hash"]}
    return EventsAnswer(200, orjson.dumps({**ack, **changed}), None)
