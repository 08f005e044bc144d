"""A plane that was away for long: how fast does the backlog drain, and what does it cost the node?

`python -m moneylab.outage --events 1000000`: records pile up in the spool with no plane to register with, then one
comes, over HTTP, in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import uvloop

from moneylab.kills import BALANCE
from moneylab.life import ENDPOINT, NODE, ORG
from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.control.heartbeat import HeartbeatLoop, NodeIdentity, Vitals
from pareta_agent.control.plane_client import PlaneClient
from pareta_agent.control.uplink import Uplink, UplinkSettings
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.spool import Spool
from pareta_agent.plane import embedded
from pareta_agent.plane.plane import open_plane

UNCAPPED = UplinkSettings(max_events_per_s=1e9)


async def outage(home: Path, events: int) -> dict[str, Any]:
    """Figures of one outage of that many records."""
    clock = SystemClock()
    spool = Spool.open(
        home / "spool.db", SpoolSettings(NODE, max_bytes=8 * 2**30, disk_reserve_bytes=0), clock
    )
    started_s = time.perf_counter()
    for first in range(0, events, 1000):
        await asyncio.gather(*(spool.finish(_record(n)) for n in range(first, min(first + 1000, events))))
    written_s = time.perf_counter() - started_s
    own = psutil.Process()
    rss_before = own.memory_info().rss
    seed = embedded.Seed(
        node=NODE,
        org=ORG,
        balance_micro_usd=BALANCE,
        endpoints=(embedded.SeedEndpoint(id=ENDPOINT, task="t", alias="a"),),
    )
    plane = await embedded.start(home, seed)
    peak = 0
    async with PlaneClient(plane.url, plane.node_token, NODE) as client:
        heart = HeartbeatLoop(
            client, spool, NodeIdentity(NODE, "b", "0"), lambda: Vitals("ready"), clock, lambda _: None
        )
        uplink = Uplink(client, spool, clock, lambda _: None, UNCAPPED)
        tasks = [asyncio.create_task(heart.run()), asyncio.create_task(uplink.run())]
        started_s, cpu_s = time.perf_counter(), sum(own.cpu_times()[:2])
        while not await uplink.drained(0.5):
            peak = max(peak, own.memory_info().rss)
        drained_s, cpu_s = time.perf_counter() - started_s, sum(own.cpu_times()[:2]) - cpu_s
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await plane.stop()
    stats = spool.stats()
    spool.close()
    opened_s = time.perf_counter()
    again = Spool.open(
        home / "spool.db", SpoolSettings(NODE, max_bytes=8 * 2**30, disk_reserve_bytes=0), clock
    )
    opened_s = time.perf_counter() - opened_s
    again.close()
    ledger, database = open_plane(home)
    rows = len(ledger.ledger.rows())
    database.close()
    return {
        "events": events,
        "ledgered": rows,
        "lost": events - rows,
        "rejected": stats.quarantined,
        "written_per_s": round(events / written_s),
        "drained_per_s": round(events / drained_s),
        "node_cpu_us_per_event": round(cpu_s / events * 1e6, 1),
        "memory_growth_mib": round((peak - rss_before) / 2**20, 1),
        "spool_bytes_per_event": round(stats.bytes / events),
        "open_s": round(opened_s, 2),
    }


def _record(number: int) -> UsageRecord:
    admission = Admission(f"r{number:09}", ORG, "key", ENDPOINT, "t", "a", "/v1/completions", True, 1.7e9)
    return UsageRecord(admission, Outcome.COMPLETED, "engine_final", Tokens(100, 0, 7), ("stop",))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        figures = uvloop.run(outage(Path(home), options.events))
    json.dump(figures, sys.stdout, indent=2)
    sys.exit(0 if figures["lost"] == 0 else 1)


if __name__ == "__main__":
    main()
