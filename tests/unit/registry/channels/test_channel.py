"""Promoting, signing and following a channel: a node takes what it trusts and keeps the last good catalog."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pareta_registry.catalog import Catalog
from pareta_registry.channels import channel
from pareta_registry.channels.follow import CatalogFollower
from pareta_registry.channels.server import serve
from pareta_registry.documents.file_documents import FileDocuments
from pareta_registry.errors import ArtifactError, RegistryFailure, TrustError
from pareta_registry.load import builtin_catalog, catalog_of
from pareta_registry.signing import keys
from pareta_registry.stores import StoreSettings

NOW_S = 1_800_000_000.0


class Team:
    """A published registry, its key, and a stranger's key."""

    def __init__(self, root: Path) -> None:
        self.root = root / "published"
        self.place = FileDocuments(self.root)
        for name in ("ours", "theirs"):
            private, public = keys.generate()
            (root / name).write_bytes(private)
            (root / f"{name}.pub").write_bytes(public)
        self.key = keys.read_private(root / "ours")
        self.stranger = keys.read_private(root / "theirs")
        self.trusted = keys.read_public(root / "ours.pub")
        self.first = builtin_catalog()
        self.second = catalog_of([*self.first.models, *self.first.tasks[:1]])

    @property
    def pointer(self) -> Path:
        return self.root / "channels" / "stable.json"

    async def promote(self, catalog: Catalog, signed: bool = True) -> None:
        await channel.promote(self.place, catalog, "stable", [self.key] if signed else [])


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


@pytest.fixture
def follower(team: Team, tmp_path: Path) -> Callable[..., CatalogFollower]:
    def make(pinned: bool = True, source: str = "") -> CatalogFollower:
        trusted = team.trusted if pinned else ()
        source = source or team.root.as_uri()
        return CatalogFollower(source, "stable", tmp_path / "state", trusted, wall_s=lambda: NOW_S)

    return make


async def test_a_promoted_catalog_is_followed(team: Team, follower: Callable[..., CatalogFollower]) -> None:
    """The catalog arrives as it was, with its serial; the next promotion replaces it."""
    await team.promote(team.first)
    found = await follower().refresh()
    assert (found.catalog, found.serial, found.refusal) == (team.first, 1, None)
    await team.promote(team.second)
    assert (await follower().refresh()).catalog == team.second


async def test_an_absent_channel_keeps_the_last_good(
    team: Team, follower: Callable[..., CatalogFollower], tmp_path: Path
) -> None:
    """Offline, the last catalog goes on working, with its age and the reason; a host that never saw one fails."""
    await team.promote(team.first)
    await follower().refresh()
    team.root.rename(tmp_path / "gone")
    found = await follower().refresh()
    assert found.catalog == team.first
    assert isinstance(found.refusal, ArtifactError)
    assert found.age_s(NOW_S + 60) == 60
    with pytest.raises(ArtifactError, match="has no"):
        await CatalogFollower(team.root.as_uri(), "stable", tmp_path / "new", team.trusted).refresh()


@pytest.mark.parametrize("damage", ["unsigned", "stranger", "payload", "catalog", "garbage", "other channel"])
async def test_what_is_not_trusted_is_refused(
    team: Team, follower: Callable[..., CatalogFollower], damage: str
) -> None:
    """Unsigned, foreign, altered or misplaced: refused at first sight, and later in favour of the last good one."""

    async def spoil(catalog: Catalog) -> None:
        await team.promote(catalog, signed=damage != "unsigned")
        if damage == "stranger":
            await channel.sign(team.place, "stable", [team.stranger])
        elif damage == "payload":
            envelope = json.loads(team.pointer.read_bytes())
            payload = base64.b64decode(envelope["payload"]).replace(b'"serial":', b'"serial":1')
            team.pointer.write_text(json.dumps(envelope | {"payload": base64.b64encode(payload).decode()}))
        elif damage == "catalog":
            path = team.root / channel.catalog_path(catalog.digest)
            path.write_bytes(
                path.read_bytes().replace(b"Key fields", b"Kei fields").replace(b"Summary", b"Sumnary")
            )
        elif damage == "garbage":
            team.pointer.write_bytes(b"[]")
        elif damage == "other channel":
            await channel.promote(team.place, catalog, "canary", [team.key])
            (team.root / "channels" / "canary.json").rename(team.pointer)

    await team.promote(team.first)
    good = team.pointer.read_bytes()
    await spoil(team.first)
    with pytest.raises(TrustError) as caught:
        await follower().refresh()
    assert caught.value.remedy
    team.pointer.write_bytes(good)
    await team.promote(team.first)
    await follower().refresh()
    await spoil(team.second)
    found = await follower().refresh()
    assert found.catalog == team.first
    assert isinstance(found.refusal, TrustError)


async def test_a_replayed_pointer_is_refused(team: Team, follower: Callable[..., CatalogFollower]) -> None:
    """An older pointer, well signed, is recognised; a rollback by the owner is a new pointer and is taken."""
    await team.promote(team.first)
    old = team.pointer.read_bytes()
    await team.promote(team.second)
    await follower().refresh()
    team.pointer.write_bytes(old)
    found = await follower().refresh()
    assert isinstance(found.refusal, TrustError)
    assert (found.catalog, found.refusal.code) == (team.second, "catalog_rolled_back")
    await team.promote(team.second)
    await channel.promote(team.place, team.second, "stable", [team.key])
    await channel.retag(team.place, team.first.digest, "stable", [team.key])
    found = await follower().refresh()
    assert (found.catalog, found.refusal) == (team.first, None)


async def test_two_catalogs_under_one_serial(team: Team, follower: Callable[..., CatalogFollower]) -> None:
    """Both well signed: whichever this host saw first stays, the other is told; the next serial is taken."""
    await team.promote(team.first)
    before = team.pointer.read_bytes()
    await team.promote(team.second)
    await follower().refresh()
    team.pointer.write_bytes(before)
    await team.promote(team.first)
    found = await follower().refresh()
    assert isinstance(found.refusal, TrustError)
    assert (found.catalog, found.refusal.code) == (team.second, "catalog_equivocated")
    assert team.first.digest[:19] in found.refusal.message
    await team.promote(team.first)
    assert (await follower().refresh()).refusal is None


async def test_the_replay_guard_outlives_a_damaged_catalog(
    team: Team, follower: Callable[..., CatalogFollower], tmp_path: Path
) -> None:
    """A host whose kept catalog is damaged fetches it again, and still refuses older pointers."""
    await team.promote(team.first)
    old = team.pointer.read_bytes()
    await team.promote(team.second)
    await follower().refresh()
    next((tmp_path / "state").rglob("sha256-*.json")).write_bytes(b"torn")
    new, _ = team.pointer.read_bytes(), team.pointer.write_bytes(old)
    with pytest.raises(TrustError) as caught:
        await follower().refresh()
    assert caught.value.code == "catalog_rolled_back"
    team.pointer.write_bytes(new)
    assert (await follower().refresh()).catalog == team.second


async def test_without_pinned_keys_anything_well_formed_is_taken(
    team: Team, follower: Callable[..., CatalogFollower]
) -> None:
    """Signatures are the operator's choice."""
    await team.promote(team.first, signed=False)
    assert (await follower(pinned=False).refresh()).catalog == team.first


async def test_over_http_nothing_new_costs_nothing(
    team: Team, follower: Callable[..., CatalogFollower]
) -> None:
    """The read API answers an unchanged channel with 304, and shows nothing but catalogs and channels."""
    import aiohttp

    await team.promote(team.first)
    (team.root / "secret.json").write_text("{}")
    runner = await serve(team.root, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        following = follower(source=base)
        assert (await following.refresh()).catalog == (await following.refresh()).catalog == team.first
        await team.promote(team.second)
        assert (await following.refresh()).catalog == team.second
        await following.close()
        async with aiohttp.ClientSession() as session:
            first = await session.get(f"{base}/channels/stable.json")
            again = await session.get(
                f"{base}/channels/stable.json", headers={"If-None-Match": first.headers["ETag"]}
            )
            assert (first.status, again.status) == (200, 304)
            for path in (
                "/secret.json",
                "/channels/../secret.json",
                "/catalogs/x.json",
                "/channels/none.json",
            ):
                assert (await session.get(base + path)).status == 404
    finally:
        await runner.cleanup()


def test_plain_http_to_strangers_is_refused(tmp_path: Path) -> None:
    """A catalog comes over TLS, from a file, or from a host that the operator named."""
    with pytest.raises(ArtifactError) as caught:
        CatalogFollower("http://registry.example/x", "stable", tmp_path)
    assert caught.value.code == "source_unsupported"
    CatalogFollower(
        "http://registry.example/x", "stable", tmp_path, (), StoreSettings(plain_http=("registry.example",))
    )


async def test_unused_catalogs_are_known(team: Team) -> None:
    """What no channel points at may go, the rest stays."""
    await team.promote(team.first)
    await team.promote(team.second)
    assert await channel.unused_catalogs(team.place) == [team.first.digest]


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"])
def test_keys_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no P-256 key says how to make one."""
    (tmp_path / "key").write_bytes(content)
    for read in (keys.read_private, keys.read_public):
        with pytest.raises(RegistryFailure, match="key"):
            read(tmp_path / "key")


async def test_the_mark_outlives_a_change_of_keys(
    team: Team, follower: Callable[..., CatalogFollower], tmp_path: Path
) -> None:
    """Who pins other keys takes nothing that the old ones signed, and still knows what was seen."""
    await team.promote(team.first)
    old = team.pointer.read_bytes()
    await team.promote(team.second)
    await follower().refresh()
    theirs = keys.read_public(tmp_path / "theirs.pub")
    other = CatalogFollower(team.root.as_uri(), "stable", tmp_path / "state", theirs)
    with pytest.raises(TrustError, match="altered, or signed"):
        await other.refresh()
    team.pointer.write_bytes(old)
    await channel.sign(team.place, "stable", [team.stranger])
    with pytest.raises(TrustError) as caught:
        await other.refresh()
    assert caught.value.code == "catalog_rolled_back"


async def test_two_channels_of_one_place_are_kept_apart(
    team: Team, follower: Callable[..., CatalogFollower], tmp_path: Path
) -> None:
    """What one of them takes the other does not throw away."""
    await team.promote(team.first)
    await channel.promote(team.place, team.second, "canary", [team.key])
    canary = CatalogFollower(team.root.as_uri(), "canary", tmp_path / "state", team.trusted)
    await follower().refresh()
    await canary.refresh()
    team.root.rename(tmp_path / "gone")
    assert (await follower().refresh()).catalog == team.first
    assert (await canary.refresh()).catalog == team.second


async def test_a_place_that_says_nothing_has_a_deadline(tmp_path: Path) -> None:
    """A socket that takes the call and never answers costs the time that was given, not more."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        source = f"http://127.0.0.1:{mute.getsockname()[1]}"
        silent = CatalogFollower(source, "stable", tmp_path / "state")
        with pytest.raises(ArtifactError, match="did not answer within"):
            await silent.refresh(0.2)
        await silent.close()
