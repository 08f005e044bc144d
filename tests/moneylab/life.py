"""One life of a metering node: spool, heart and uplink as an agent joins them, under load, until somebody kills it.

What its clients saw goes to a file that the node's own death cannot undo: `sent <id>` before a request is admitted,
`done <id> <output tokens>` when the last byte would leave.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import uvloop

from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.control.heartbeat import HeartbeatLoop, Listeners, NodeIdentity, Vitals
from pareta_agent.control.plane_client import EventsAnswer, PlaneClient
from pareta_agent.control.uplink import Uplink, UplinkSettings
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.spool import Spool

NODE, ORG, ENDPOINT = "node-1", "org_local", "ep_a"


@dataclass(frozen=True, slots=True)
class Ways:
    """How a life goes: with `under_load` its time runs from its first request, else from its birth.

    `die_at` is SQL text or `send`, with `before` or `after`, and how many times it passes first.
    """

    workers: int = 64
    pause_s: float = 0.002
    die_at: tuple[str, str, int] | None = None
    plane_dies_after_s: float | None = None
    under_load: bool = True
    keep_acked_s: float = 7 * 86400.0


def live(home: Path, url: str, token: str, seen: int, life: int, ways: Ways) -> None:
    """Until killed."""
    uvloop.run(_live(home, url, token, seen, life, ways, until_drained=False))


def drain(home: Path, url: str, token: str, timeout_s: float = 120.0) -> bool:
    """A last life without load, until the plane has everything; False when it took too long."""
    return uvloop.run(
        _live(home, url, token, -1, -1, Ways(workers=0), until_drained=True, timeout_s=timeout_s)
    )


async def _live(
    home: Path,
    url: str,
    token: str,
    seen: int,
    life: int,
    ways: Ways,
    *,
    until_drained: bool,
    timeout_s: float = 120.0,
) -> bool:
    clock, registered = SystemClock(), asyncio.Event()
    strike = _striker(ways)
    if ways.die_at is not None:
        apsw.connection_hooks.append(_sql_watcher(strike))
    settings = SpoolSettings(NODE, reserve_bytes=65536, disk_reserve_bytes=0, keep_acked_s=ways.keep_acked_s)
    spool = Spool.open(home / "spool.db", settings, clock)
    client = PlaneClient(url, token, NODE)
    identity = NodeIdentity(NODE, f"boot-{life}", "0")
    heart = HeartbeatLoop(
        client,
        spool,
        identity,
        lambda: Vitals("ready"),
        clock,
        _quiet,
        Listeners(epoch=lambda _: registered.set()),
    )
    uplink = Uplink(_Sender(client, strike), spool, clock, _quiet, UplinkSettings(linger_s=0.002))
    tasks = [asyncio.create_task(heart.run()), asyncio.create_task(uplink.run())]
    tasks += [asyncio.create_task(_client(spool, seen, f"{life}-{n}", ways)) for n in range(ways.workers)]
    try:
        if until_drained:
            await asyncio.wait_for(registered.wait(), timeout_s)
            return await uplink.drained(timeout_s)
        await asyncio.gather(*tasks)
        return False
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
        spool.close()


async def _client(spool: Spool, seen: int, name: str, ways: Ways) -> None:
    """Sends one request after another."""
    number = 0
    while True:
        number += 1
        request_id = f"{name}-{number}"
        os.write(seen, f"sent {request_id}\n".encode())
        admission = Admission(request_id, ORG, "key", ENDPOINT, "t", "a", "/v1/completions", True, 1.7e9)
        spool.admit(admission)
        await asyncio.sleep(random.expovariate(1 / ways.pause_s))
        tokens = Tokens(1000, 0, random.randrange(1, 1000))
        outcome = Outcome.COMPLETED if random.random() < 0.9 else Outcome.PARTIAL_CLIENT
        await spool.finish(UsageRecord(admission, outcome, "engine_final", tokens, ("stop",)))
        if outcome is Outcome.COMPLETED:
            os.write(seen, f"done {request_id} {tokens.output}\n".encode())


@dataclass(slots=True)
class _Sender:
    """The plane's client, with a place to die before and after a batch travels."""

    client: PlaneClient
    strike: Callable[[str, str], None]

    async def events(self, events: Sequence[bytes], *, resync: bool = False) -> EventsAnswer:
        self.strike("send", "before")
        answer = await self.client.events(events, resync=resync)
        self.strike("send", "after")
        return answer


def _striker(ways: Ways) -> Callable[[str, str], None]:
    left = ways.die_at[2] if ways.die_at else 0

    def strike(what: str, when: str) -> None:
        nonlocal left
        if ways.die_at is not None and what.startswith(ways.die_at[0]) and when == ways.die_at[1]:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return strike


def _sql_watcher(strike: Callable[[str, str], None]) -> Callable[[apsw.Connection], None]:
    def hook(connection: apsw.Connection) -> None:
        def saw(event: dict[str, object]) -> None:
            when = "before" if event["code"] == apsw.SQLITE_TRACE_STMT else "after"
            strike(str(event["sql"]), when)

        connection.trace_v2(apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_PROFILE, saw)

    return hook


def _quiet(_event: object) -> None:
    """Nobody listens."""
