"""`plane serve` for several nodes: two of them at once, each with its own token, epochs, chain and leases."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from harness import AGENT, environment
from moneylab.life import ENDPOINT, ORG

from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.control.heartbeat import HeartbeatLoop, Listeners, NodeIdentity, Vitals
from pareta_agent.control.plane_client import PlaneClient
from pareta_agent.control.uplink import Uplink
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.spool import Spool
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.seed import SeedEndpoint
from pareta_agent.plane.store.database import Database
from pareta_agent.telemetry.events import Bus

pytestmark = pytest.mark.slow
BALANCE = 1_000_000


@pytest.fixture
def address(tmp_path: Path, database_url: str) -> Iterator[str]:
    """A plane by itself, on a database of each kind."""
    env = environment(tmp_path, PARETA_PLANE_DATABASE=database_url)
    argv = [*AGENT, "plane", "serve", "--port", "0"]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        process.terminate()


@pytest.fixture
def books(database_url: str) -> Iterator[Plane]:
    """The same database, looked at from beside."""
    database = Database(database_url)
    database.create()
    plane = Plane.on(database, SystemClock())
    plane.orgs.ensure(ORG, BALANCE)
    plane.desired_state.replace([SeedEndpoint(id=ENDPOINT, task="t", alias="a").wanted(ORG)])
    yield plane
    database.close()


@asynccontextmanager
async def node(
    home: Path, name: str, address: str, token: str
) -> AsyncIterator[tuple[Spool, HeartbeatLoop, Uplink]]:
    clock, registered = SystemClock(), asyncio.Event()
    spool = Spool.open(home / name / "spool.db", SpoolSettings(name, reserve_bytes=4096), clock)
    async with PlaneClient(address, token, name) as client:
        heard = Listeners(epoch=lambda _: registered.set())
        who = NodeIdentity(name, "boot", "0")
        heart = HeartbeatLoop(client, spool, who, lambda: Vitals("ready"), clock, Bus(), heard)
        uplink = Uplink(client, spool, clock, Bus())
        tasks = [asyncio.create_task(heart.run()), asyncio.create_task(uplink.run())]
        try:
            await asyncio.wait_for(registered.wait(), 60)
            yield spool, heart, uplink
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            spool.close()


def record(request_id: str) -> UsageRecord:
    admission = Admission(request_id, ORG, "key", ENDPOINT, "t", "a", "/v1/completions", False, 1.7e9)
    return UsageRecord(admission, Outcome.COMPLETED, "engine_final", Tokens(1000, 0, 7), ("stop",))


async def test_two_nodes_share_a_plane_and_not_their_chains(
    tmp_path: Path, books: Plane, address: str
) -> None:
    """Records of both are ledgered once under their own sources, and both are debited from the one balance."""
    tokens = {name: books.nodes.mint(name) for name in ("n1", "n2")}
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(node(tmp_path, name, address, token))
            for name, token in tokens.items()
        ]
        for number, (spool, _, _) in enumerate(nodes):
            await asyncio.gather(*(spool.finish(record(f"n{number + 1}-{n}")) for n in range(200)))
        drained = await asyncio.gather(*(uplink.drained(120) for _, _, uplink in nodes))
        assert drained == [True, True]
        assert [row.id for row in books.nodes.rows()] == ["n1", "n2"]
        assert {row.state for row in books.nodes.rows()} <= {"starting", "ready"}  # as their first beats come
    rows = books.ledger.rows()
    assert sorted(row["request_id"] for row in rows) == sorted(f"{n}-{i}" for n in tokens for i in range(200))
    assert {(row["request_id"][:2], row["source"].split("/")[4]) for row in rows} == {
        ("n1", "n1"),
        ("n2", "n2"),
    }
    assert books.orgs.balance(ORG) == BALANCE - sum(row["debit_micro_usd"] for row in rows)


async def test_one_nodes_token_and_lease_are_no_other_nodes(
    tmp_path: Path, books: Plane, address: str
) -> None:
    """A batch under another's name is refused, and what one node leased the other cannot."""
    tokens = {name: books.nodes.mint(name) for name in ("n1", "n2")}
    async with (
        node(tmp_path, "n1", address, tokens["n1"]) as (spool, first, uplink),
        node(tmp_path, "n2", address, tokens["n2"]) as (_, second, _),
        PlaneClient(address, tokens["n1"], "n1") as one,
        PlaneClient(address, tokens["n2"], "n2") as two,
        PlaneClient(address, tokens["n2"], "n1") as pretender,
    ):
        taken = await one.credit_lease(first.view.epoch, ORG, BALANCE - 100)
        left = await two.credit_lease(second.view.epoch, ORG, BALANCE)
        assert (taken.granted_micro_usd, left.granted_micro_usd) == (BALANCE - 100, 100)
        await spool.finish(record("a"))
        stolen = [entry.wire() for entry in await spool.unacked(10)]
        assert (await pretender.events(stolen)).status == 403
        if stolen:
            assert (await two.events(stolen)).status == 422
        assert await uplink.drained(120)
    assert [row["request_id"] for row in books.ledger.rows()] == ["a"]
