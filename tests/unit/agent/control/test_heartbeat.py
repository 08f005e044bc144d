"""The lease: registered before it admits, measured from the send time, fenced by a newer epoch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pareta_agent.contract import wire
from pareta_agent.control.heartbeat import HeartbeatLoop, HeartbeatSettings, Listeners, NodeIdentity, Vitals
from pareta_agent.errors import PlaneError
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.spool import Spool


class Plane:
    """Registers and answers beats; `script` holds what the next calls raise or change, then all is well."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.epoch = 0
        self.beats: list[wire.Heartbeat] = []
        self.registrations: list[wire.Register] = []
        self.script: list[PlaneError | dict[str, Any]] = []
        self.slow_s = self.called_s = 0.0

    async def register(self, body: wire.Register) -> wire.Registered:
        self.registrations.append(body)
        changed = self._next()
        self.epoch = max([self.epoch, *(mark.epoch for mark in body.epochs)]) + 1
        values = {"epoch": self.epoch, "heartbeat_s": 10.0, "lease_ttl_s": 40.0, "keys_revision": 3}
        return wire.Registered(server_time=self.clock.wall_s(), desired_revision=1, **{**values, **changed})

    async def heartbeat(self, body: wire.Heartbeat, timeout_s: float | None = None) -> wire.HeartbeatAnswer:
        self.beats.append(body)
        self.called_s = self.clock.now_s
        self.clock.now_s += self.slow_s
        values = {"heartbeat_s": 10.0, "lease_ttl_s": 40.0, "desired_revision": 1, "keys_revision": 3}
        return wire.HeartbeatAnswer(server_time=self.clock.wall_s() + 5.0, **{**values, **self._next()})

    def _next(self) -> dict[str, Any]:
        planned = self.script.pop(0) if self.script else {}
        if isinstance(planned, PlaneError):
            raise planned
        return planned


@pytest.fixture
def plane(clock: Any) -> Plane:
    return Plane(clock)


@pytest.fixture
async def spool(tmp_path: Path, clock: Any) -> AsyncIterator[Spool]:
    found = Spool.open(
        tmp_path / "spool.db", SpoolSettings("n", reserve_bytes=4096, disk_reserve_bytes=0), clock
    )
    yield found
    found.close()


def heart_of(plane: Plane, spool: Spool, **more: Any) -> HeartbeatLoop:
    vitals = more.pop("vitals", lambda: Vitals("ready", running=2, inventory={"cpus": 2}))
    return HeartbeatLoop(
        plane, spool, NodeIdentity("n", "boot", "1"), vitals, plane.clock, lambda _: None, **more
    )


async def until(heart: HeartbeatLoop, done: Any) -> None:
    """Lets the heart run until `done()`."""
    running = asyncio.create_task(heart.run())
    async with asyncio.timeout(120):
        while not done():
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_nothing_is_admitted_before_registration(plane: Plane, spool: Spool) -> None:
    """A node without a lease is not ready; registration makes it so and opens the epoch."""
    heart = heart_of(plane, spool)
    assert heart.may_admit() is False
    await until(heart, lambda: heart.view.epoch == 1)
    assert heart.may_admit() is True
    assert spool.stats().epoch == 1


async def test_a_beat_carries_the_high_water_mark(plane: Plane, spool: Spool) -> None:
    """Epoch, spool and load go with every beat, within a kilobyte; the inventory only once."""
    heart = heart_of(plane, spool)
    await until(heart, lambda: len(plane.beats) >= 3)
    beat = plane.beats[0]
    assert (beat.epoch, beat.running, beat.metering_ok) == (1, 2, True)
    assert (beat.spool.last_seq, beat.spool.last_hash) == (1, spool.stats().last_hash)
    assert plane.registrations[0].inventory == {"cpus": 2}
    assert beat.inventory is None
    assert len(beat.model_dump_json(exclude_none=True)) <= 1024


async def test_the_lease_counts_from_the_send_time(plane: Plane, spool: Spool, clock: Any) -> None:
    """A renewal that took 12 s to come back is 12 s old."""
    heart = heart_of(plane, spool)
    plane.slow_s = 12.0
    await until(heart, lambda: heart.view.sent == 1)
    sent_s = plane.called_s
    clock.now_s = sent_s + 29.9
    assert heart.may_admit() is True
    clock.now_s = sent_s + 30.001
    assert heart.may_admit() is False


async def test_offline_grace_prolongs_admission(plane: Plane, spool: Spool, clock: Any) -> None:
    """Where the owner allows it, the node serves without a plane for that long."""
    heart = heart_of(plane, spool, settings=HeartbeatSettings(offline_grace_s=100.0))
    await until(heart, lambda: heart.view.epoch == 1)
    clock.now_s = (heart.view.renewed_boot_s or 0) + 129.0
    assert heart.may_admit() is True


async def test_a_fenced_node_stops_and_registers_anew(plane: Plane, spool: Spool) -> None:
    """410: the epoch is over, the next one begins above it."""
    heart = heart_of(plane, spool)
    epochs: list[int] = []
    heart = heart_of(plane, spool, listeners=Listeners(epoch=epochs.append))
    plane.script = [{}, PlaneError("plane_fenced", "410")]
    await until(heart, lambda: len(epochs) == 2)
    assert epochs == [1, 2]
    assert [mark.epoch for mark in plane.registrations[1].epochs] == [1]


async def test_a_plane_that_is_away_is_asked_again(plane: Plane, spool: Spool) -> None:
    """Failures change nothing but the count, and the lease runs out by itself."""
    away = PlaneError("plane_away", "no route")
    plane.script = [away, away, {}, away, away]
    heart = heart_of(plane, spool)
    await until(heart, lambda: heart.view.sent == 1)
    assert (heart.view.failed, heart.view.epoch, heart.view.trouble) == (4, 1, "")


async def test_the_clock_offset_is_measured(plane: Plane, spool: Spool) -> None:
    """Five seconds behind the plane shows as five."""
    heart = heart_of(plane, spool)
    await until(heart, lambda: heart.view.sent == 1)
    assert heart.view.clock_offset_s == pytest.approx(5.0)


async def test_answers_reach_who_listens(plane: Plane, spool: Spool) -> None:
    """Revisions, directives and renewed leases are handed on."""
    heard: list[Any] = []
    listeners = Listeners(
        keys_revision=lambda *told: heard.append(told),
        credit_lease=heard.append,
        directive=heard.append,
    )
    lease = wire.CreditLease(org="o", granted_micro_usd=0, expires_s=60.0)
    news = {"keys_revision": 4, "keys_withdrawn": ["ab"]}
    plane.script = [{}, {"directives": ["drain"], "credit_leases": [lease], **news}]
    heart = heart_of(plane, spool, listeners=listeners)
    await until(heart, lambda: heart.view.sent == 2)
    assert heard == [(3, None), (4, ["ab"]), lease, "drain", (3, None)]
    assert [beat.revisions.keys for beat in plane.beats] == [3, 4]


async def test_a_plane_that_gives_an_old_epoch_is_not_believed(plane: Plane, spool: Spool) -> None:
    """An epoch that the spool has passed would fork its chain: ask again."""
    await spool.begin_epoch(9)
    plane.script = [{"epoch": 9}]
    heart = heart_of(plane, spool)
    await until(heart, lambda: heart.view.epoch > 0)
    assert heart.view.epoch == 11
