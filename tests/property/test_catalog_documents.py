"""Catalogs and manifests from hell: never a crash, never an invalid document accepted."""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pareta_registry.artifacts.manifest import Manifest, parse_manifest, path_refusal
from pareta_registry.artifacts.modelpack import ARTIFACT_TYPE, pack, unpack
from pareta_registry.catalog import Catalog
from pareta_registry.engine_flags import refusal
from pareta_registry.errors import ArtifactError, CatalogError
from pareta_registry.load import builtin_catalog, load_catalog
from pareta_registry.resolve import Resolution, resolve
from pareta_registry.stores.credentials import docker_credentials
from pareta_registry.stores.oci_reference import parse_reference

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PATHS = st.lists(
    st.text(string.ascii_letters + "./\\:\0 \n~$%é", max_size=12)
    | st.sampled_from(["..", ".", "model.safetensors"]),
    min_size=1,
    max_size=4,
).map("/".join)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


def demo_documents() -> list[dict[str, Any]]:
    catalog = builtin_catalog()
    return [document.model_dump(mode="json") for document in (*catalog.tasks, *catalog.models)]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, inner in items for place in places(inner, (*path, key))]


@st.composite
def mutated(draw: st.DrawFn) -> list[Any]:
    """The demo catalog with up to three places replaced, removed or added to."""
    documents: Any = demo_documents()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from([p for p in places(documents) if p]))
        parent = documents
        for key in place[:-1]:
            parent = parent[key]
        if place[-1] not in (parent if isinstance(parent, dict) else range(len(parent))):
            continue
        deed = draw(st.sampled_from(["replace", "remove", "add"]))
        if deed == "remove":
            del parent[place[-1]]
        elif deed == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=10))] = draw(JSON)
        else:
            parent[place[-1]] = draw(JSON)
        documents = json.loads(json.dumps(documents))
    return list(documents)


def load(text: str | bytes, suffix: str = ".yaml") -> Catalog | None:
    """The catalog, or None when it was refused as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "catalog" + suffix)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        try:
            return load_catalog(path)
        except CatalogError as error:
            assert error.problems  # noqa: PT017
            assert all(p.file == path.name and p.message and p.line >= 0 for p in error.problems)  # noqa: PT017
            return None


def assert_consistent(catalog: Catalog) -> None:
    """What every accepted catalog promises."""
    assert Catalog.model_validate_json(catalog.model_dump_json()) == catalog
    for task in catalog.tasks:
        assert isinstance(resolve(catalog, task.id), Resolution)
        for alias in task.aliases:
            found = resolve(catalog, task.id, alias.id)
            assert isinstance(found, Resolution)
            assert 0 < found.max_model_len <= found.model.context
            assert not [name for name, value in found.engine.items() if refusal(name, value)]


@settings(max_examples=40, deadline=None)
@given(mutated())
def test_mutated_catalogs(documents: list[Any]) -> None:
    """A demo catalog with random damage is refused with located problems or is consistent throughout."""
    for text, suffix in ((json.dumps(documents), ".json"), (yaml.safe_dump(documents), ".yaml")):
        catalog = load(text, suffix)
        if catalog is not None:
            assert_consistent(catalog)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300) | st.text(string.printable, max_size=300))
def test_arbitrary_text(text: str | bytes) -> None:
    """Bytes and text of any kind end in a verdict."""
    catalog = load(text)
    if catalog is not None:
        assert_consistent(catalog)


@given(PATHS)
def test_accepted_paths_stay_inside(path: str) -> None:
    """Whatever passes names a file below the artifact, on every file system, without an executable format."""
    if path_refusal(path) is None:
        root = Path("/weights/artifact")
        assert (root / path).resolve().is_relative_to(root)
        assert not path.endswith((".bin", ".pt", ".pth", ".pkl", ".py", ".so"))


ENTRIES = st.fixed_dictionaries(
    {
        "path": PATHS | st.just("model.safetensors"),
        "sha256": HEX | st.text(max_size=5),
        "size_bytes": st.integers() | JSON,
    }
)


@given(st.fixed_dictionaries({"files": st.lists(ENTRIES, max_size=4) | JSON}) | JSON)
def test_manifests(document: Any) -> None:
    """A manifest is refused by one kind of error, or is safe and survives the wire."""
    try:
        manifest = parse_manifest(json.dumps(document).encode(), "there")
    except ArtifactError as error:
        assert error.remedy  # noqa: PT017
    else:
        assert parse_manifest(manifest.to_bytes(), "there") == manifest
        assert not [file.path for file in manifest.files if path_refusal(file.path, code=True)]
        assert all(file.size_bytes >= 0 for file in manifest.files)
        assert unpack(pack(manifest, "sha256:" + "0" * 64, 2), "there") == manifest


@given(JSON, st.lists(JSON, max_size=3))
def test_oci_manifests(layer: Any, layers: list[Any]) -> None:
    """Whatever stands where layers should stand is refused, not followed."""
    document = {"artifactType": ARTIFACT_TYPE, "layers": [layer, *layers]}
    try:
        found = unpack(json.dumps(document).encode(), "there")
    except ArtifactError:
        return
    assert isinstance(found, Manifest)


@given(st.text(max_size=60) | st.text("abc/:@.-_1", max_size=60).map("oci://".__add__))
def test_references(source: str) -> None:
    """An OCI reference parses into a host and a repository that cannot climb, or is refused."""
    try:
        reference = parse_reference(source)
    except ArtifactError as error:
        assert error.code == "source_invalid"  # noqa: PT017
    else:
        assert not any(part in ("", "..") for part in reference.name.split("/"))
        assert "/" not in reference.host


@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps({"auths": {"h": value}}).encode()))
def test_docker_configs(data: bytes) -> None:
    """Any docker config gives credentials, nothing, or an error that does not repeat it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_bytes(data)
        try:
            found = docker_credentials(path, "h")
        except ArtifactError as error:
            assert error.code == "credentials_unreadable"  # noqa: PT017
        else:
            assert found is None or found.password not in repr(found) or len(found.password) < 9
