"""Publish and fetch through a real docker-registry: open, with a password, and with TLS and bearer tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from catalogs import registry as program
from fakes.artifact import random_files, write_artifact
from fakes.certificates import Certificate, make_certificate
from fakes.oci_registry import Registry, needs_registry
from typer.testing import CliRunner

from pareta_agent.errors import RegistryError
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Variant
from pareta_registry.channels.channel import promote, retag
from pareta_registry.channels.follow import CatalogFollower
from pareta_registry.cli.main import app
from pareta_registry.documents.oci_documents import OciDocuments
from pareta_registry.errors import ArtifactError
from pareta_registry.load import builtin_catalog, catalog_of
from pareta_registry.publish.oci_publisher import publish, sign_published
from pareta_registry.signing import keys
from pareta_registry.stores import StoreSettings

pytestmark = [needs_registry, pytest.mark.slow]
FILES = random_files({"model.safetensors": 3_000_000, "config.json": 500, "LICENSE": 10})


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    return write_artifact(tmp_path / "artifact", FILES)


def docker_config(root: Path, host: str, user: str = "ada", password: str = "lovelace") -> Path:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    path = root / f"{user}.json"
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return path


async def fetched(root: Path, variant: Variant, source: str, stores: StoreSettings) -> dict[str, bytes]:
    settings = WeightsSettings(
        root / "weights", root / "cache", reserve_bytes=0, part_bytes=1 << 20, stores=stores
    )
    path = await WeightsStore(settings).fetch(variant.model_copy(update={"source": source}), lambda _: None)
    return {name: (path / name).read_bytes() for name in FILES}


async def test_publish_and_fetch(tmp_path: Path, variant: Variant) -> None:
    """What was published is fetched by tag and by digest, and a second publish sends no blob."""
    with Registry(tmp_path / "registry") as registry:
        target = f"oci://{registry.host}/team/model:v1"
        manifest, digest = await publish(tmp_path / "artifact", target, StoreSettings())
        assert variant.artifact == manifest.digest
        pinned = f"oci://{registry.host}/team/model@{digest}"
        for number, source in enumerate((target, pinned)):
            assert await fetched(tmp_path / str(number), variant, source, StoreSettings()) == FILES
        blobs = sorted(registry.data.rglob("data"))
        assert digest == (await publish(tmp_path / "artifact", target, StoreSettings()))[1]
        assert blobs == sorted(registry.data.rglob("data"))


async def test_a_blob_altered_on_the_registrys_disk_is_refused(tmp_path: Path, variant: Variant) -> None:
    """The registry serves what is on its disk without a look; the fetch does look."""
    with Registry(tmp_path / "registry") as registry:
        target = f"oci://{registry.host}/team/model:v1"
        await publish(tmp_path / "artifact", target, StoreSettings())
        blob = next(path for path in registry.data.rglob("data") if path.stat().st_size == 3_000_000)
        data = bytearray(blob.read_bytes())
        data[1_500_000] ^= 1
        blob.write_bytes(data)
        with pytest.raises(RegistryError) as caught:
            await fetched(tmp_path, variant, target, StoreSettings())
    assert caught.value.code == "digest_mismatch"


@pytest.mark.skipif(shutil.which("htpasswd") is None, reason="needs htpasswd of apache2-utils")
async def test_a_password(tmp_path: Path, variant: Variant) -> None:
    """Basic credentials come from the docker config; the wrong ones are refused by name of the host."""
    line = subprocess.run(
        ["htpasswd", "-Bbn", "ada", "lovelace"], capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "htpasswd").write_text(line)
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}}
    with Registry(tmp_path / "registry", auth) as registry:
        target = f"oci://{registry.host}/team/model:v1"
        right = StoreSettings(docker_config=docker_config(tmp_path, registry.host))
        await publish(tmp_path / "artifact", target, right)
        assert await fetched(tmp_path, variant, target, right) == FILES
        wrong = StoreSettings(docker_config=docker_config(tmp_path, registry.host, "eve"))
        for settings in (wrong, StoreSettings()):
            with pytest.raises(RegistryError) as caught:
                await fetched(tmp_path / "other", variant, target, settings)
            assert (caught.value.code, registry.host in caught.value.message) == ("unauthorized", True)
            assert "lovelace" not in str(caught.value)


class TokenService:
    """Grants what is asked for to ada, and pull to anybody who says nothing."""

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate
        self.scopes: list[str] = []

    async def grant(self, request: web.Request) -> web.Response:
        scope = request.query["scope"]
        self.scopes.append(scope)
        kind, name, actions = scope.split(":")
        known = "Basic " + base64.b64encode(b"ada:lovelace").decode()
        allowed = actions.split(",") if request.headers.get("Authorization") == known else ["pull"]
        claims: dict[str, object] = {"iss": "test", "sub": "", "aud": "registry"}
        access = [{"type": kind, "name": name, "actions": allowed}]
        return web.json_response({"token": self.certificate.token(claims | {"access": access})})


@pytest.fixture
async def tokens(tmp_path: Path) -> AsyncIterator[tuple[TokenService, str]]:
    service = TokenService(make_certificate(tmp_path))
    app = web.Application()
    app.router.add_get("/token", service.grant)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=service.certificate.server_context).start()
    yield service, f"https://127.0.0.1:{runner.addresses[0][1]}/token"
    await runner.cleanup()


async def test_tls_and_bearer_tokens(
    tmp_path: Path, variant: Variant, tokens: tuple[TokenService, str]
) -> None:
    """With a CA of its own and a token service: pushing needs ada's token, pulling an anonymous one; without the
    CA nothing is said to the registry at all."""
    service, realm = tokens
    files = service.certificate
    bundle = str(files.pem)
    token = {"realm": realm, "service": "registry", "issuer": "test", "rootcertbundle": bundle}
    tls = {"certificate": bundle, "key": str(files.key)}
    with Registry(tmp_path / "registry", {"auth": {"token": token}}, tls) as registry:
        target = f"oci://{registry.host}/team/model:v1"
        anonymous = StoreSettings(ca_file=files.pem, plain_http=())
        ada = StoreSettings(
            docker_config=docker_config(tmp_path, registry.host), ca_file=files.pem, plain_http=()
        )
        await publish(tmp_path / "artifact", target, ada)
        assert await fetched(tmp_path, variant, target, anonymous) == FILES
        assert {"repository:team/model:pull,push", "repository:team/model:pull"} == set(service.scopes)
        with pytest.raises(ArtifactError) as caught:
            await publish(tmp_path / "artifact", f"oci://{registry.host}/team/other:v1", anonymous)
        assert caught.value.code == "unauthorized"
        with pytest.raises(RegistryError) as untrusted:
            await fetched(tmp_path / "other", variant, target, StoreSettings(plain_http=()))
        assert untrusted.value.code == "tls_untrusted"


async def test_a_signed_artifact(tmp_path: Path, variant: Variant) -> None:
    """A host that pins keys takes what they signed, and neither unsigned nor foreign artifacts; nor what it fetched
    before it pinned them."""
    pairs = {}
    for name in ("ours", "theirs"):
        private, public = keys.generate()
        (tmp_path / name).write_bytes(private)
        (tmp_path / f"{name}.pub").write_bytes(public)
        pairs[name] = keys.read_private(tmp_path / name), keys.read_public(tmp_path / f"{name}.pub")
    with Registry(tmp_path / "registry") as registry:
        target = f"oci://{registry.host}/team/model:v1"
        _, digest = await publish(tmp_path / "artifact", target, StoreSettings())
        there = variant.model_copy(update={"source": f"oci://{registry.host}/team/model@{digest}"})
        open_to_all = WeightsSettings(tmp_path / "weights", tmp_path / "cache", reserve_bytes=0)
        settings = replace(open_to_all, trusted=pairs["ours"][1])
        first = WeightsStore(open_to_all)
        await first.fetch(there, lambda _: None)
        first.unpin(there.artifact)
        for signer, code in ((None, "signature_missing"), ("theirs", "signature_wrong")):
            if signer:
                await sign_published(there.source, pairs[signer][0], StoreSettings())
            with pytest.raises(RegistryError) as caught:
                await WeightsStore(settings).fetch(there, lambda _: None)
            assert (caught.value.code, there.artifact[:19] in caught.value.message) == (code, True)
        await sign_published(there.source, pairs["ours"][0], StoreSettings())
        path = await WeightsStore(settings).fetch(there, lambda _: None)
        assert FILES["config.json"] == (path / "config.json").read_bytes()
    again = await WeightsStore(settings).fetch(there, lambda _: None)
    assert again == path


def diff(place: str, before: str, after: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(app, ["diff", before, after, "--at", place, "--json"])
    assert done.exit_code == 1, (done.stderr, done.exception)
    return list(json.loads(done.stdout))


async def test_a_catalog_in_the_registry(tmp_path: Path) -> None:
    """A channel is a tag: promoted, followed, rolled back by a new pointer, compared, cleared away; offline the last
    good one stays."""
    first = builtin_catalog()
    second = catalog_of([*first.models, *first.tasks[:1]])
    with Registry(tmp_path / "registry") as registry:
        source = f"oci://{registry.host}/team/catalog"
        place = OciDocuments(source, StoreSettings())
        follower = CatalogFollower(source, "stable", tmp_path / "state")
        for catalog in (first, second):
            await promote(place, catalog, "stable", [])
            assert (await follower.refresh()).catalog == catalog
        await retag(place, first.digest, "stable", [])
        assert (await follower.refresh()).serial == 3
        canary = CatalogFollower(source, "canary", tmp_path / "state")
        with pytest.raises(ArtifactError) as caught:
            await canary.refresh()
        await canary.close()
        assert caught.value.code == "artifact_missing"
        await promote(place, second, "canary", [])
        canary_is = await asyncio.to_thread(diff, source, "channel:stable", "channel:canary")
        assert canary_is == await asyncio.to_thread(diff, source, first.digest, second.digest) != []
        await retag(place, first.digest, "canary", [])
        said = [
            json.loads(await asyncio.to_thread(program, "gc", source, *flags, "--json"))
            for flags in ((), ("--delete",), ())
        ]
        assert said == [{"unused": [second.digest]}, {"deleted": [second.digest]}, {"unused": []}]
        await place.close()
    found = await follower.refresh()
    await follower.close()
    assert (found.catalog, found.refusal is None) == (first, False)
