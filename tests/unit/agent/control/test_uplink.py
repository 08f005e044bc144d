"""The uplink beside everything else: its cap, and a connection that is not the heartbeat's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import orjson

from pareta_agent.clock import SystemClock
from pareta_agent.contract import wire
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.control.plane_client import EventsAnswer, PlaneClient
from pareta_agent.control.uplink import Uplink, UplinkSettings
from pareta_agent.errors import PlaneError
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.spool import Spool
from pareta_agent.telemetry.events import Bus


def record(request_id: str) -> UsageRecord:
    admission = Admission(request_id, "org", "key", "ep", "t", "a", "/v1/completions", False, 1.7e9)
    return UsageRecord(admission, Outcome.COMPLETED, "engine_final", Tokens(1, 0, 1), ("stop",))


class Taker:
    """A plane that takes every batch, and remembers when."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, int]] = []

    async def events(self, events: Sequence[bytes], *, resync: bool = False) -> EventsAnswer:
        last = orjson.loads(events[-1])
        self.batches.append((asyncio.get_running_loop().time(), len(events)))
        ack = wire.Ack(server_time=0, epoch=last["epoch"], acked_seq=last["sequence"], hash=last["hash"])
        return EventsAnswer(200, ack.model_dump_json().encode(), None)


async def test_a_backlog_drains_no_faster_than_its_cap(tmp_path: Path) -> None:
    """Forty-one events at a hundred a second, ten at a time, take four tenths of a second or more."""
    clock, plane = SystemClock(), Taker()
    spool = Spool.open(tmp_path / "spool.db", SpoolSettings("n", reserve_bytes=4096), clock)
    await spool.begin_epoch(1)
    await asyncio.gather(*(spool.finish(record(str(n))) for n in range(40)))
    settings = UplinkSettings(max_events=10, linger_s=0.0, max_events_per_s=100.0)
    running = asyncio.create_task(Uplink(plane, spool, clock, Bus(), settings).run())
    async with asyncio.timeout(120):
        while spool.stats().unacked:
            await asyncio.sleep(0.01)
    running.cancel()
    spool.close()
    assert sum(count for _, count in plane.batches) == 41
    assert plane.batches[-1][0] - plane.batches[0][0] >= 0.4


class Absent(Taker):
    """One that is away at first."""

    async def events(self, events: Sequence[bytes], *, resync: bool = False) -> EventsAnswer:
        if len(self.batches) < 2:
            self.batches.append((0.0, 0))
            raise PlaneError("plane_away", "no route")
        return await super().events(events, resync=resync)


async def test_who_drains_waits_for_no_backoff(tmp_path: Path) -> None:
    """A node that ends tries again at once what would be tried in a minute."""
    clock, plane = SystemClock(), Absent()
    spool = Spool.open(tmp_path / "spool.db", SpoolSettings("n", reserve_bytes=4096), clock)
    await spool.begin_epoch(1)
    uplink = Uplink(plane, spool, clock, Bus(), UplinkSettings(backoff_s=1e6, backoff_max_s=1e6))
    running = asyncio.create_task(uplink.run())
    await spool.finish(record("a"))
    assert await uplink.drained(20)
    running.cancel()
    spool.close()


async def test_a_batch_that_hangs_does_not_hold_up_the_heartbeat() -> None:
    """It has a connection of its own: the lease is renewed while the plane sits on the events."""

    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/heartbeat" in head:
            beat = wire.HeartbeatAnswer(
                server_time=0, heartbeat_s=10, lease_ttl_s=40, desired_revision=0, keys_revision=0
            )
            body = beat.model_dump_json().encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        else:
            hung.set()

    hung = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with PlaneClient(url, "token", "n") as client:
        batch = asyncio.create_task(client.events([b"{}"]))
        await asyncio.wait_for(hung.wait(), 30)
        beat = wire.Heartbeat(node="n", epoch=1, hb_seq=1, boot_id="b", state="ready")
        assert (await client.heartbeat(beat, timeout_s=30)).heartbeat_s == 10
        assert not batch.done()
        batch.cancel()
    for writer in writers:
        writer.close()
    server.close()
