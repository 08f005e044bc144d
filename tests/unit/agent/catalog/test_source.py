"""What a node goes by while catalogs are published, and what its neighbours on the host see of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pareta_agent.catalog.location import CatalogLocation, cached_catalog
from pareta_agent.catalog.source import CatalogSource, read_catalog
from pareta_agent.clock import SystemClock
from pareta_agent.config import load
from pareta_agent.errors import ConfigError, RegistryError
from pareta_agent.node.settings_map import catalog_place
from pareta_agent.telemetry.events import Event, Phase
from pareta_registry.catalog import Catalog
from pareta_registry.channels.channel import promote
from pareta_registry.documents.file_documents import FileDocuments
from pareta_registry.load import builtin_catalog, catalog_of

FIRST = builtin_catalog()
SECOND = catalog_of([*FIRST.models, *FIRST.tasks[:1]])


@pytest.fixture
def published(tmp_path: Path) -> FileDocuments:
    return FileDocuments(tmp_path / "published")


@pytest.fixture
def place(tmp_path: Path) -> CatalogLocation:
    return CatalogLocation((tmp_path / "published").as_uri(), tmp_path / "state", poll_s=0.01)


async def test_changes_are_told_once(published: FileDocuments, place: CatalogLocation) -> None:
    """Each catalog that differs from the last is handed on; a place that is gone is told once and changes nothing."""
    said: list[Event | Phase] = []
    got: asyncio.Queue[Catalog] = asyncio.Queue()
    await promote(published, FIRST, "stable", [])
    offer = CatalogSource(place, SystemClock(), said.append)
    await offer.open()
    assert (offer.catalog, offer.serial) == (FIRST, 1)
    running = asyncio.create_task(offer.run(got.put))
    await promote(published, SECOND, "stable", [])
    assert await asyncio.wait_for(got.get(), 60) == SECOND
    Path(str(published.where).removeprefix("file://")).rename(place.state_dir.with_name("away"))
    while offer.refusal is None:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    running.cancel()
    assert (offer.catalog, got.empty()) == (SECOND, True)
    assert [event.name for event in said if isinstance(event, Event)] == [
        "catalog_changed",
        "catalog_refused",
    ]


async def test_a_neighbour_sees_what_the_node_took(published: FileDocuments, place: CatalogLocation) -> None:
    """The plane of this home reads what is kept, not the network, and sees the next one."""
    current = cached_catalog(place)
    with pytest.raises(RegistryError, match="holds no catalog"):
        current()
    for catalog in (FIRST, SECOND):
        await promote(published, catalog, "stable", [])
        await read_catalog(place, SystemClock())
        assert current() == catalog
    await promote(published, FIRST, "stable", [])
    assert current() == SECOND


async def test_no_catalog_at_all_is_an_error(place: CatalogLocation) -> None:
    """The first look fails with what to do."""
    with pytest.raises(RegistryError) as caught:
        await read_catalog(place, SystemClock())
    assert (caught.value.code, caught.value.remedy != "") == ("artifact_missing", True)


def test_keys_that_would_check_nothing_are_refused(tmp_path: Path) -> None:
    """A directory carries no signature; pinning keys beside it would only look safe."""
    keys = tmp_path / "key.pub"
    from pareta_registry.signing.keys import generate

    keys.write_bytes(generate()[1])
    settings, _ = load({"registry.catalog": str(tmp_path), "registry.catalog_keys": keys, "home": tmp_path})
    with pytest.raises(ConfigError, match="only a published catalog"):
        catalog_place(settings)


def test_an_address_that_catalogs_are_not_taken_from(tmp_path: Path) -> None:
    """Plain HTTP to another host is refused as a setting."""
    with pytest.raises(ConfigError, match="plain HTTP"):
        CatalogLocation("http://registry.example/x", tmp_path).follower(SystemClock())
