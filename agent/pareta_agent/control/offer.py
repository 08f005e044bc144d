"""What this node may offer: its catalog, and the model that a task and an alias name in it."""

from __future__ import annotations

from pathlib import Path

from pareta_agent.errors import RegistryError
from pareta_registry.catalog import Catalog
from pareta_registry.errors import CatalogError
from pareta_registry.load import builtin_catalog, load_catalog
from pareta_registry.resolve import Resolution, Unresolved, resolve


def open_catalog(directory: Path | None) -> Catalog:
    """The catalog in `directory`, or the built-in one. Raises RegistryError with every problem located."""
    try:
        return builtin_catalog() if directory is None else load_catalog(directory)
    except CatalogError as error:
        raise RegistryError(error.code, error.message, error.remedy) from None


def find(catalog: Catalog, task: str, alias: str | None) -> Resolution:
    """What (task, alias) names. Raises RegistryError that says what there is and what was perhaps meant."""
    found = resolve(catalog, task, alias)
    if isinstance(found, Unresolved):
        raise RegistryError(found.reason, found.message, "`pareta-registry ls` shows what the catalog has")
    return found
