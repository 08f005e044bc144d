"""Seed: the first content of an embedded plane. Applying a seed again keeps later manual changes."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pareta_agent.contract.wire import DesiredEndpoint, WirePrice
from pareta_registry.catalog import Alias
from pareta_registry.files import write_atomically

DATABASE = "plane.db"
DATABASE_ENV = "PARETA_PLANE_DATABASE"
TOKEN = "node.token"
_TOKEN = re.compile(rb"pareta_nt_[\w-]+")
FIRST_KEY = "/first-key"  # requested by the seed's node, over loopback


DEFAULT_PRICE = WirePrice(
    input_micro_usd_per_mtok=100_000,
    cached_input_micro_usd_per_mtok=50_000,
    output_micro_usd_per_mtok=400_000,
)


def price_of(alias: Alias) -> WirePrice:
    """Returns an alias' price from the catalog, or the default price."""
    return DEFAULT_PRICE if alias.price is None else WirePrice(**alias.price.model_dump())


class SeedEndpoint(BaseModel):
    model_config = ConfigDict(frozen=True)
    id: str
    task: str
    alias: str
    price: WirePrice = DEFAULT_PRICE
    idle_sleep_s: float | None = None

    def wanted(self, org: str) -> DesiredEndpoint:
        return DesiredEndpoint(org=org, **dict(self))


class Seed(BaseModel):
    """An org with a balance, a node, and the endpoints to run there.

    `catalog` and `channel` are the node's: the plane reads the catalog from the node's stored copy.
    """

    model_config = ConfigDict(frozen=True)
    node: str
    endpoints: tuple[SeedEndpoint, ...]
    org: str = "org_local"
    balance_micro_usd: int = 10_000_000
    frontier: Path | None = None
    catalog: str | None = None
    channel: str = "stable"


def plane_home(home: Path) -> Path:
    """Returns the directory of the embedded plane under an agent's home."""
    return home / "plane"


def database_url(home: Path) -> str:
    return f"sqlite:///{plane_home(home) / DATABASE}"


def node_token(home: Path) -> str:
    """Returns the embedded node's token; makes a missing or damaged token file. Readable by the owner only."""
    path = plane_home(home) / TOKEN
    if path.exists() and _TOKEN.fullmatch(kept := path.read_bytes().strip()):
        return kept.decode()
    token = f"pareta_nt_{secrets.token_urlsafe(32)}"
    write_atomically(path, f"{token}\n".encode(), mode=0o600)
    return token
