"""What an embedded plane starts with; applying it again changes nothing that was changed since by hand."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pareta_agent.control.wire import DesiredEndpoint, WirePrice
from pareta_registry.catalog import Alias
from pareta_registry.files import write_atomically

DATABASE = "plane.db"
DATABASE_ENV = "PARETA_PLANE_DATABASE"
TOKEN = "node.token"
_TOKEN = re.compile(rb"pareta_nt_[\w-]+")
FIRST_KEY = "/first-key"  # asked by the node that the seed names, over loopback


DEFAULT_PRICE = WirePrice(
    input_micro_usd_per_mtok=100_000,
    cached_input_micro_usd_per_mtok=50_000,
    output_micro_usd_per_mtok=400_000,
)


def price_of(alias: Alias) -> WirePrice:
    """What calls of an alias cost: the catalog's price, where it has one."""
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
    """One org with a balance, one node and the endpoints that should run on it.

    `catalog` and `channel` are the node's: what it follows is read from what it keeps.
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
    """Where an agent's home keeps its embedded plane."""
    return home / "plane"


def database_url(home: Path) -> str:
    return f"sqlite:///{plane_home(home) / DATABASE}"


def node_token(home: Path) -> str:
    """The embedded node's token: made once, and again where the file is damaged; readable by its owner only."""
    path = plane_home(home) / TOKEN
    if path.exists() and _TOKEN.fullmatch(kept := path.read_bytes().strip()):
        return kept.decode()
    token = f"pareta_nt_{secrets.token_urlsafe(32)}"
    write_atomically(path, f"{token}\n".encode(), mode=0o600)
    return token
