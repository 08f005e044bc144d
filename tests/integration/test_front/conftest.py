"""A front on a real port, before fake engines on real sockets, with a spool whose durability a test can hold."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))

import engine as fake

from pareta_agent.access.credit import CreditBook, GrantedLease
from pareta_agent.access.keys import KeyCache
from pareta_agent.clock import SystemClock
from pareta_agent.contract.fleet_view import EndpointView, FleetView, ReplicaView
from pareta_agent.contract.grant import GrantLimits, KeyGrant, TokenPrice
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.gateway.downstream.tls import Certificate
from pareta_agent.gateway.gateway import Gateway
from pareta_agent.gateway.ports import GatewayDeps
from pareta_agent.gateway.settings import GatewaySettings
from pareta_agent.meter.audit import Audit
from pareta_agent.node.listeners import listen
from pareta_agent.telemetry.events import Event, Phase
from pareta_agent.telemetry.metrics import Metrics

WEIGHTS = "/weights/CANARY-secret-weights-1b2f"
KEY = "pareta_sk_" + "a" * 32
GRANTS = {
    KEY: KeyGrant("org_a", "key_a", "active"),
    "pareta_sk_other": KeyGrant("org_b", "key_b", "active"),
    "pareta_sk_revoked": KeyGrant("org_a", "key_r", "revoked"),
    "pareta_sk_poor": KeyGrant("org_a", "key_p", "no_credit"),
    "pareta_sk_slow": KeyGrant("org_a", "key_s", "active", limits=GrantLimits(2, 100, 1)),
    "pareta_sk_narrow": KeyGrant("org_a", "key_n", "active", frozenset({"ep_elsewhere"})),
}


@dataclass
class HeldSpool:
    """Keeps what it is told; a record is durable at once, or when `release` says so while `hold` is set."""

    hold: bool = False
    full: bool = False
    broken: bool = False
    admitted: list[Admission] = field(default_factory=list)
    records: list[UsageRecord] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def can_admit(self) -> bool:
        return not self.full

    def admit(self, admission: Admission) -> None:
        self.admitted.append(admission)

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        self.records.append(record)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.broken:
            future.set_exception(OSError("disk gone"))
        elif self.hold:
            self.waiting.append(future)
        else:
            future.set_result(None)
        return future

    def release(self) -> None:
        for future in self.waiting:
            future.set_result(None)
        self.waiting.clear()


@dataclass
class Rig:
    """What a test holds: the front's address and the stand-ins behind it."""

    front: Gateway
    port: int
    spool: HeldSpool
    metrics: Metrics
    sockets: Path
    endpoints: dict[str, EndpointView] = field(default_factory=dict)
    events: list[Event | Phase] = field(default_factory=list)
    balance_micro_usd: int = 10**9
    price: TokenPrice | None = None
    engines: list[fake.Engine] = field(default_factory=list)
    servers: list[asyncio.Server] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    replicas: tuple[ReplicaView, ...] = ()
    complete: bool = True
    audit: Audit = field(default_factory=Audit)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def endpoint(self, **changes: object) -> EndpointView:
        view = EndpointView(
            "ep_x", "org_a", "task", "alias-1", "live", max_model_len=2048, created_s=1_700_000_000
        )
        view = replace(view, **changes)  # type: ignore[arg-type]
        self.endpoints[view.id] = view
        return view

    async def engine(self, *flags: str, index: int = 0, endpoint: str = "ep_x") -> ReplicaView:
        """A fake engine on this loop, up; the endpoint gains its replica."""
        path = self.sockets / f"{endpoint}-{index}.sock"
        base = ["--model", WEIGHTS, "--served-model-name", endpoint, "--uds", str(path)]
        engine = fake.Engine(fake.parse_arguments([*base, *flags]))
        loop = asyncio.get_running_loop()
        self.servers.append(
            await loop.create_unix_server(lambda: fake.Connection(engine), path, backlog=2048)
        )
        self.engines.append(engine)
        replica = ReplicaView(f"{endpoint}/{index}", 1, path, "0.32.0")
        view = self.endpoints.get(endpoint) or self.endpoint(id=endpoint)
        self.endpoints[endpoint] = replace(view, replicas=(*view.replicas, replica))
        return replica

    async def raw(self, request: bytes) -> bytes:
        """Sends bytes on a fresh connection and reads to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            async with asyncio.timeout(120):
                return await reader.read()
        finally:
            writer.close()

    def post(self, body: bytes, path: str = "/v1/chat/completions", extra: str = "", key: str = KEY) -> bytes:
        """The bytes of a request that closes its connection."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n{extra}"
        )
        return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not condition():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running_rig(
    sockets: Path, settings: GatewaySettings, certificate: Certificate | None = None
) -> AsyncIterator[Rig]:
    hashes = {hashlib.sha256(key.encode()).hexdigest(): grant for key, grant in GRANTS.items()}

    async def introspect(digest: str) -> KeyGrant | None:
        return hashes.get(digest)

    async def lease(_org: str, micro_usd: int) -> GrantedLease:
        granted = min(micro_usd, rig.balance_micro_usd)
        rig.balance_micro_usd -= granted
        return GrantedLease(granted, 60.0)

    clock, metrics, spool, audit = SystemClock(), Metrics(), HeldSpool(), Audit()
    deps = GatewayDeps(
        keys=KeyCache(introspect, clock),
        credit=CreditBook(lease, clock),
        spool=spool,
        fleet_view=lambda: FleetView(rig.endpoints, rig.complete),
        price_of=lambda _endpoint: rig.price,
        metrics=metrics,
        clock=clock,
        emit=lambda event: rig.events.append(event),
        wake=lambda endpoint: rig.woken.append(endpoint),
        audit=audit,
    )
    front = Gateway(settings, deps, certificate)
    socks = listen("127.0.0.1", 0, max(1, settings.workers))
    rig = Rig(front, socks[0].getsockname()[1], spool, metrics, sockets, audit=audit)
    await front.start(*socks)
    front.set_ready()
    try:
        yield rig
    finally:
        await front.stop()
        for server in rig.servers:
            server.close()


StartRig = Callable[..., Awaitable[Rig]]


@pytest.fixture
def workers() -> int:
    """How many processes answer beside the one that a test holds; files of tests may have another one."""
    return 0


@pytest.fixture
async def start_rig(tmp_path: Path, workers: int) -> AsyncIterator[StartRig]:
    """Starts rigs with settings of the test's choice."""
    async with AsyncExitStack() as stack:

        async def start(certificate: Certificate | None = None, **settings: object) -> Rig:
            made = GatewaySettings(workers=workers, **settings)  # type: ignore[arg-type]
            rig = running_rig(tmp_path, made, certificate)
            return await stack.enter_async_context(rig)

        yield start


@pytest.fixture
async def rig(start_rig: StartRig) -> Rig:
    return await start_rig()
