"""A home that a node and its plane have used, without starting either."""

from __future__ import annotations

import json
from pathlib import Path

from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.meter.settings import SpoolSettings, spool_path
from pareta_agent.meter.spool import Spool
from pareta_agent.plane.plane import open_plane
from pareta_agent.plane.seed import Seed, SeedEndpoint
from pareta_agent.plane.standalone import apply_seed

SEED = Seed(node="n", endpoints=(SeedEndpoint(id="ep_a", task="t", alias="a"),))


async def use(home: Path) -> None:
    """Three requests: one ledgered, one only in the spool, one that its agent's death left open."""
    plane, database = open_plane(home)
    apply_seed(plane, home, SEED)
    spool = Spool.open(
        spool_path(home), SpoolSettings("n", reserve_bytes=4096, disk_reserve_bytes=0), SystemClock()
    )
    await spool.begin_epoch(1)
    await spool.finish(_record("req_1"))
    entries = await spool.unacked(10)
    plane.ledger.take("n", [json.loads(entry.wire()) for entry in entries])
    await spool.ack(1, entries[-1].sequence, entries[-1].hash)
    await spool.finish(_record("req_2"))
    spool.admit(_record("req_3").admission)
    await spool.flush(5)
    spool.close()
    database.close()


def _record(request_id: str) -> UsageRecord:
    admission = Admission(request_id, SEED.org, "key", "ep_a", "t", "a", "/v1/chat/completions", True, 1.7e9)
    return UsageRecord(admission, Outcome.COMPLETED, "engine_final", Tokens(1000, 0, 500), ("stop",))
