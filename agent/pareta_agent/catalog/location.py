"""Catalog location: reads a node's catalog: built in, a directory of documents, or a published channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pareta_agent.clock import Clock
from pareta_agent.errors import ConfigError, RegistryError
from pareta_registry.catalog import Catalog
from pareta_registry.channels.cache import CachedCatalog, CatalogCache
from pareta_registry.channels.follow import CatalogFollower
from pareta_registry.errors import RegistryFailure
from pareta_registry.load import builtin_catalog, load_catalog
from pareta_registry.signing.keys import PublicKey
from pareta_registry.stores import StoreSettings


def catalog_state(home: Path) -> Path:
    """The folder of `home` that stores the followed channel."""
    return home / "catalog"


@dataclass(frozen=True, slots=True)
class CatalogLocation:
    """Source of the catalog. None: the built-in catalog; a path: a directory of documents; an address: published
    catalogs.

    With `keys`, only a channel signed by a pinned key is followed. `state_dir` stores the last good catalog.
    """

    where: str | None
    state_dir: Path
    channel: str = "stable"
    keys: tuple[PublicKey, ...] = ()
    stores: StoreSettings = field(default_factory=StoreSettings)
    poll_s: float = 60.0

    @property
    def is_published(self) -> bool:
        return self.where is not None and "://" in self.where

    @property
    def cache(self) -> CatalogCache:
        return CatalogCache(self.state_dir, self.where or "", self.channel)

    def read(self) -> Catalog:
        """The catalog of a directory, or the built-in catalog. Raises RegistryError with every problem located."""
        try:
            return builtin_catalog() if self.where is None else load_catalog(Path(self.where))
        except RegistryFailure as error:
            raise RegistryError(error.code, error.message, error.remedy) from None

    def follower(self, clock: Clock) -> CatalogFollower:
        """Raises ConfigError for an address without published catalogs."""
        try:
            return CatalogFollower(
                self.where or "", self.channel, self.state_dir, self.keys, self.stores, clock.wall_s
            )
        except RegistryFailure as error:
            raise ConfigError(error.code, error.message, error.remedy) from None


def cached_catalog(location: CatalogLocation) -> Callable[[], Catalog]:
    """The stored catalog of the node with this home, for programs beside the node. Uses no network; reads again after
    a change.
    """
    if not location.is_published:
        fixed = location.read()
        return lambda: fixed
    cache, seen = location.cache, 0
    found: CachedCatalog | None = None

    def current() -> Catalog:
        nonlocal seen, found
        if found is None or cache.stamp() != seen:
            seen, found = cache.stamp(), cache.read() or found
        if found is None:
            raise RegistryError("catalog_missing", f"{cache.folder} holds no catalog", "start the node first")
        return found.catalog

    return current
