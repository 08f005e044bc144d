"""Node and plane over real sockets: the embedded plane's process, the client, heart and uplink."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from fakes.ports import free_port

from pareta_agent.access.keys import KeyCache, KeySettings
from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.control.heartbeat import HeartbeatLoop, Listeners, NodeIdentity, Vitals
from pareta_agent.control.plane_client import PlaneClient
from pareta_agent.control.uplink import Uplink
from pareta_agent.errors import PlaneError
from pareta_agent.meter.spool import Spool, SpoolSettings
from pareta_agent.plane import embedded
from pareta_agent.plane.plane import open_plane
from pareta_agent.plane.seed import FIRST_KEY
from pareta_agent.telemetry.events import Bus, Event, Phase

SEED = embedded.Seed(
    node="node-1", endpoints=(embedded.SeedEndpoint(id="ep_a", task="task-a", alias="alias-1"),)
)


def record(request_id: str, outcome: Outcome = Outcome.COMPLETED) -> UsageRecord:
    admission = Admission(
        request_id, SEED.org, "key_a", "ep_a", "task-a", "alias-1", "/v1/chat/completions", True, 1.7e9
    )
    return UsageRecord(admission, outcome, "engine_final", Tokens(1000, 0, 500), ("stop",))


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[tuple[embedded.EmbeddedPlane, PlaneClient]]:
    plane = await embedded.start(home, SEED, free_port())
    try:
        async with PlaneClient(plane.url, plane.node_token, SEED.node) as client:
            yield plane, client
    finally:
        await plane.stop()


@asynccontextmanager
async def node(home: Path, client: PlaneClient) -> AsyncIterator[tuple[Spool, HeartbeatLoop, Uplink]]:
    clock, emit = SystemClock(), Bus()
    spool = Spool.open(home / "spool.db", SpoolSettings(SEED.node, reserve_bytes=4096), clock)
    registered = asyncio.Event()
    identity = NodeIdentity(SEED.node, "boot-1", "0.1.0")
    vitals = Vitals("ready", inventory={"cpus": 2})
    listeners = Listeners(epoch=lambda _: registered.set())
    heart = HeartbeatLoop(client, spool, identity, lambda: vitals, clock, emit, listeners)
    uplink = Uplink(client, spool, clock, emit)
    tasks = [asyncio.create_task(heart.run()), asyncio.create_task(uplink.run())]
    try:
        async with asyncio.timeout(120):
            await registered.wait()
        yield spool, heart, uplink
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        spool.close()


async def test_a_record_becomes_a_debited_row(tmp_path: Path) -> None:
    """A completed record is a ledger row and a debit soon after; a failed one a row without a debit."""
    async with running(tmp_path) as (_, client), node(tmp_path, client) as (spool, heart, uplink):
        assert heart.may_admit()
        await spool.finish(record("a"))
        await spool.finish(record("b", Outcome.FAILED_ENGINE))
        assert await uplink.drained(120)
    plane, database = open_plane(tmp_path)
    rows = [(row["request_id"], row["outcome"], row["debit_micro_usd"]) for row in plane.ledger.rows()]
    assert rows == [("a", "completed", 300), ("b", "failed_engine", 0)]
    assert plane.orgs.balance(SEED.org) == SEED.balance_micro_usd - 300
    database.close()


@pytest.mark.slow
async def test_the_first_key_is_minted_once_and_shown_to_the_node_alone(tmp_path: Path) -> None:
    """Whoever else reaches the port learns nothing; it introspects to its org; after a restart there is no other."""
    async with running(tmp_path) as (plane, client):
        async with aiohttp.ClientSession() as stranger, stranger.post(plane.url + FIRST_KEY) as answer:
            assert answer.status == 401
        secret = await plane.first_key()
        assert secret is not None
        grant = await client.introspect(hashlib.sha256(secret.encode()).hexdigest())
        assert grant is not None
        assert (grant.org, grant.state) == (SEED.org, "active")
        assert await client.introspect("0" * 64) is None
    async with running(tmp_path) as (plane, _):
        assert await plane.first_key() is None


@pytest.mark.slow
async def test_a_plane_that_leaves_answers_who_waits(tmp_path: Path) -> None:
    """Polls of half a minute end with what there is, and hold nobody up."""
    async with running(tmp_path) as (plane, client):
        revision = (await client.desired(-1, 0)).revision
        polls = asyncio.gather(client.desired(revision, 30), client.questions(30))
        await asyncio.sleep(0.5)
        await client.desired(-1, 0)  # answered after those before it were read
        await plane.stop()
        desired, questions = await polls
    assert (desired.revision, questions) == (revision, [])


@pytest.mark.slow
async def test_the_desired_state_is_polled_long(tmp_path: Path) -> None:
    """The seed's endpoints are wanted with their prices; the same revision waits."""
    async with running(tmp_path) as (_, client):
        desired = await client.desired(-1, 0)
        assert [
            (each.id, each.state, each.price.output_micro_usd_per_mtok) for each in desired.endpoints
        ] == [("ep_a", "running", 400_000)]
        assert (await client.desired(desired.revision, 0.3)).revision == desired.revision


async def test_a_newer_epoch_fences_the_older(tmp_path: Path) -> None:
    """Two registrations of one node: the first gets 410 for heartbeats and credit."""
    async with running(tmp_path) as (_, client), node(tmp_path, client) as (spool, heart, uplink):
        old = heart.view.epoch
        newer = await client.register(heart._registration())
        assert newer.epoch > old
        with pytest.raises(PlaneError) as fenced:
            await client.credit_lease(old, SEED.org, 100)
        assert fenced.value.code == "plane_fenced"
        await spool.finish(record("late"))
        assert await uplink.drained(120)


async def test_credit_is_leased_down_to_zero(tmp_path: Path) -> None:
    """What is leased can't be leased again."""
    async with running(tmp_path) as (_, client), node(tmp_path, client) as (_, heart, _):
        first = await client.credit_lease(heart.view.epoch, SEED.org, 9_999_000)
        second = await client.credit_lease(heart.view.epoch, SEED.org, 9_999_000)
        third = await client.credit_lease(heart.view.epoch, SEED.org, 1)
        granted = [each.granted_micro_usd for each in (first, second, third)]
        assert granted == [9_999_000, 1_000, 0]


async def test_credit_that_nobody_heard_of_is_leased_again(tmp_path: Path) -> None:
    """The node says what it heard; the answers in between got lost, and what they granted is free."""
    async with running(tmp_path) as (_, client), node(tmp_path, client) as (_, heart, _):
        lost = await client.credit_lease(heart.view.epoch, SEED.org, 9_999_000, 0)
        heard = await client.credit_lease(heart.view.epoch, SEED.org, 9_999_000, 0)
        rest = await client.credit_lease(heart.view.epoch, SEED.org, 9_999_000, heard.granted_micro_usd)
        assert [each.granted_micro_usd for each in (lost, heard, rest)] == [9_999_000, 9_999_000, 1_000]


@pytest.mark.slow
async def test_a_wrong_token_is_refused(tmp_path: Path) -> None:
    """401 is not a plane that is away."""
    async with running(tmp_path) as (plane, _), PlaneClient(plane.url, "wrong", SEED.node) as stranger:
        with pytest.raises(PlaneError) as refused:
            await stranger.desired(-1, 0)
        assert refused.value.code == "plane_unauthorized"


@pytest.mark.slow
async def test_a_plane_that_dies_comes_back_where_it_was(tmp_path: Path) -> None:
    """kill -9 of the plane, and of the next one while it starts: the same address answers again, and records written
    meanwhile arrive."""
    told: list[Phase | Event] = []
    async with running(tmp_path) as (plane, client), node(tmp_path, client) as (spool, _, uplink):
        keeping = asyncio.create_task(plane.keep(told.append))
        plane.process.signal(signal.SIGKILL)
        await spool.finish(record("meanwhile"))
        async with asyncio.timeout(120):
            while not (starting := planes_but(plane.process.pid)):
                await asyncio.sleep(0.01)
        starting[0].kill()
        assert await uplink.drained(120)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    assert [event.name for event in told if isinstance(event, Event)] == ["plane_ended", "plane_not_started"]


def planes_but(pid: int) -> list[psutil.Process]:
    """Planes that this process has started and that live, without the one of that number."""
    family = psutil.Process().children()
    return [p for p in family if p.pid != pid and "pareta_agent.plane" in p.cmdline()]


@pytest.mark.slow
async def test_a_plane_that_is_frozen_takes_no_key_but_the_revoked(tmp_path: Path) -> None:
    """One was revoked and another made just before: who was known is served, the revoked one is not."""
    async with running(tmp_path) as (frozen, client), node(tmp_path, client) as (_, heart, _):
        cache = KeyCache(client.introspect, SystemClock(), KeySettings(introspect_timeout_s=2.0))
        heart._listeners = Listeners(keys_revision=cache.revise)
        plane, database = open_plane(tmp_path)
        kept, gone = (plane.keys.mint(SEED.org) for _ in range(2))
        await heart._beat()
        assert [grant.key_id for key in (kept, gone) if (grant := await cache.grant(key.secret))] == [
            kept.id,
            gone.id,
        ]
        plane.keys.revoke(gone.id)
        plane.keys.mint(SEED.org)
        database.close()
        await heart._beat()
        frozen.process.signal(signal.SIGSTOP)
        try:
            grant = await cache.grant(kept.secret)
            assert grant is not None
            assert grant.key_id == kept.id
            with pytest.raises(PlaneError):
                await cache.grant(gone.secret)
        finally:
            frozen.process.signal(signal.SIGCONT)
        revoked = await cache.grant(gone.secret)
        assert revoked is not None
        assert revoked.state == "revoked"


@pytest.mark.slow
async def test_a_plane_that_complains_a_lot_goes_on(tmp_path: Path) -> None:
    """Callers that hang up midway make it log errors; a full pipe must not stop it."""
    async with running(tmp_path) as (plane, client):
        port = int(plane.url.rsplit(":", 1)[1])
        head = (
            "POST /node/v1/nodes/node-1/events HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {plane.node_token}\r\nContent-Length: 1000\r\n\r\n["
        )
        for _ in range(300):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode())
            await writer.drain()
            writer.close()
        assert (await client.desired(-1, 0)).revision > 0
