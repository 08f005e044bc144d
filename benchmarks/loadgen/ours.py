"""The real front with the real key cache, credit book and durable spool, before a given engine socket.

What `pareta-agent serve` runs, without engines and control plane of its own, so that a benchmark can pin it.

    python ours.py ENGINE_SOCKET PORT ENDPOINT KEY DIRECTORY [FRONT_WORKERS]
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from pathlib import Path

import uvloop

from pareta_agent.access.credit import CreditBook, GrantedLease
from pareta_agent.access.keys import KeyCache
from pareta_agent.clock import SystemClock
from pareta_agent.contract.fleet_view import EndpointView, FleetView, ReplicaView
from pareta_agent.contract.grant import KeyGrant, TokenPrice
from pareta_agent.gateway.gateway import Gateway
from pareta_agent.gateway.ports import GatewayDeps
from pareta_agent.gateway.settings import GatewaySettings
from pareta_agent.meter.spool import Spool, SpoolSettings
from pareta_agent.node.listeners import listen
from pareta_agent.telemetry.metrics import Metrics


async def serve(engine: Path, port: int, endpoint: str, key: str, directory: Path, workers: int) -> None:
    clock = SystemClock()
    known = hashlib.sha256(key.encode()).hexdigest()
    replica = ReplicaView(f"{endpoint}/0", 1, engine)
    view = EndpointView(endpoint, "org", "task", "alias", "live", (replica,), max_model_len=4096)
    fleet = FleetView({endpoint: view})

    async def introspect(digest: str) -> KeyGrant | None:
        return KeyGrant("org", "key", "active", ttl_s=3600.0) if digest == known else None

    async def lease(_org: str, _micro_usd: int) -> GrantedLease:
        return GrantedLease(10**15, 3600.0)

    spool = Spool.open(directory / "spool.db", SpoolSettings("bench"), clock)
    await spool.begin_epoch(1)
    deps = GatewayDeps(
        keys=KeyCache(introspect, clock),
        credit=CreditBook(lease, clock),
        spool=spool,
        fleet_view=lambda: fleet,
        price_of=lambda _endpoint: TokenPrice(100, 50, 400),
        metrics=Metrics(),
        clock=clock,
        emit=lambda _event: None,
    )
    front = Gateway(GatewaySettings(workers=workers), deps)
    await front.start(*listen("127.0.0.1", port, max(1, workers)))
    front.set_ready()
    print("ready", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await front.drain(1.0)
    await front.stop()
    await spool.flush(10.0)
    stats = spool.stats()
    spool.close()
    print(f"records {stats.last_seq} open {stats.open}", flush=True)


def main() -> None:
    engine, port, endpoint, key, directory, *workers = sys.argv[1:]
    uvloop.run(serve(Path(engine), int(port), endpoint, key, Path(directory), int(*workers)))


if __name__ == "__main__":
    main()
