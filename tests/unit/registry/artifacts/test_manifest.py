"""A manifest names files by content; what could do more than hold tensors and text is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pareta_registry.artifacts.build import build_manifest
from pareta_registry.artifacts.manifest import ArtifactFile, Manifest, parse_manifest, path_refusal
from pareta_registry.errors import ArtifactError

HEX = hashlib.sha256(b"x").hexdigest()


def entry(path: str = "config.json", **changes: object) -> dict[str, object]:
    return {"path": path, "sha256": HEX, "size_bytes": 1} | changes


def test_a_manifest_survives_the_wire() -> None:
    """Bytes to value to bytes is the identity, and the digest is over exactly those bytes."""
    manifest = Manifest(files=(ArtifactFile(path="b.json", sha256=HEX, size_bytes=2),))
    again = parse_manifest(manifest.to_bytes(), "here")
    assert manifest == again
    assert manifest.digest == "sha256:" + hashlib.sha256(manifest.to_bytes()).hexdigest()


def test_order_does_not_matter() -> None:
    """Files are sorted by path, so the digest is of the content."""
    one = parse_manifest(json.dumps({"files": [entry("a.json"), entry("b.json")]}).encode(), "x")
    two = parse_manifest(json.dumps({"files": [entry("b.json"), entry("a.json")]}).encode(), "x")
    assert one.digest == two.digest


@pytest.mark.parametrize(
    "path",
    [
        "../config.json", "a/../b.json", "/etc/x.json", "a//b.json", "./a.json", "", ".hidden.json", "a/.git/x.json",
        "C:/x.json", "a\\b.json", "a\nb.json", "model.bin", "pytorch_model.pt", "x.pkl", "model.pyc", "weights.npy",
        "weights.gguf", "x.so", "tokenizer", "pareta-manifest.json", "x" * 300 + ".json",
    ],
)  # fmt: skip
def test_dangerous_paths_are_refused(path: str) -> None:
    """Escapes, absolute and hidden paths, pickles, code and libraries never enter a manifest."""
    assert path_refusal(path)
    with pytest.raises(ArtifactError) as caught:
        parse_manifest(json.dumps({"files": [entry(path)]}).encode(), "there")
    assert caught.value.code == "manifest_invalid"


@pytest.mark.parametrize(
    "document",
    [
        {"files": []},
        {"files": [entry(), entry()]},
        {"files": [entry("A.json"), entry("a.json")]},
        {"files": [entry("a.json"), entry("a.json/b.json")]},
        {"files": [entry(size_bytes=-1)]},
        {"files": [entry(size_bytes=True)]},
        {"files": [entry(size_bytes=1.5)]},
        {"files": [entry(sha256="0" * 63)]},
        {"files": [entry(sha256=HEX.upper())]},
        {"files": [entry(link="x")]},
        {"files": {}, "other": 1},
        [],
        None,
    ],
)
def test_malformed_manifests_are_refused(document: object) -> None:
    """Every field is checked, nothing unknown passes."""
    with pytest.raises(ArtifactError, match="there") as caught:
        parse_manifest(json.dumps(document).encode(), "there")
    assert caught.value.code == "manifest_invalid"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b" " * (5 << 20)])
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    """Torn, binary, deep and oversized manifests are one error."""
    with pytest.raises(ArtifactError) as caught:
        parse_manifest(data, "there")
    assert caught.value.code == "manifest_invalid"


def test_a_directory_is_hashed(tmp_path: Path) -> None:
    """build_manifest lists every file with its hash and size."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "config.json").write_bytes(b"x")
    assert [entry("sub/config.json")] == build_manifest(tmp_path).model_dump(mode="json")["files"]


def test_links_and_pickles_are_no_artifact(tmp_path: Path) -> None:
    """A directory that holds one is refused as a whole, by name."""
    (tmp_path / "config.json").symlink_to("/etc/hostname")
    with pytest.raises(ArtifactError, match=r"config\.json is a link"):
        build_manifest(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"model\.bin"):
        build_manifest(tmp_path)


def test_code_is_listed_and_never_overlooked(tmp_path: Path) -> None:
    """A manifest may list Python, and says so; whoever builds one must have asked for it."""
    assert Manifest(files=(ArtifactFile(**entry("a.py")), ArtifactFile(**entry("b.json")))).code == ("a.py",)
    assert path_refusal("a.py")
    (tmp_path / "a.py").write_text("pass")
    with pytest.raises(ArtifactError, match="refused"):
        build_manifest(tmp_path)
    assert build_manifest(tmp_path, code=True).code == ("a.py",)
