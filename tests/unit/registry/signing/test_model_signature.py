"""Signatures over artifacts: readable by the tool of that name, and refused where they do not hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.artifact import random_files, write_artifact
from model_signing import hashing, signing, verifying

from pareta_registry.artifacts.build import build_manifest
from pareta_registry.artifacts.manifest import MANIFEST_NAME, SIGNATURE_NAME
from pareta_registry.errors import TrustError
from pareta_registry.signing import keys
from pareta_registry.signing.model_signature import check_signature, sign_manifest

FILES = random_files({"model.safetensors": 5000, "config.json": 50, "a/b.txt": 5})


def key_pair(root: Path, name: str = "key") -> tuple[Path, Path]:
    private, public = keys.generate()
    (root / name).write_bytes(private)
    (root / f"{name}.pub").write_bytes(public)
    return root / name, root / f"{name}.pub"


def test_model_signing_reads_ours(tmp_path: Path) -> None:
    """The bundle in an artifact is verified by model-signing itself, which hashes the files again."""
    write_artifact(tmp_path / "artifact", FILES)
    private, public = key_pair(tmp_path)
    signature = tmp_path / "artifact" / SIGNATURE_NAME
    signature.write_bytes(sign_manifest(build_manifest(tmp_path / "artifact"), keys.read_private(private)))
    beside = [signature, tmp_path / "artifact" / MANIFEST_NAME]
    config = verifying.Config().use_elliptic_key_verifier(public_key=public)
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=beside))
    config.verify(tmp_path / "artifact", signature)
    (tmp_path / "artifact" / "config.json").write_bytes(b"x")
    with pytest.raises(ValueError, match="config"):
        config.verify(tmp_path / "artifact", signature)


def test_we_read_model_signings(tmp_path: Path) -> None:
    """A publisher who signs with model-signing needs no tool of ours."""
    write_artifact(tmp_path / "artifact", FILES)
    private, public = key_pair(tmp_path)
    signature = tmp_path / "artifact" / SIGNATURE_NAME
    signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(
        hashing.Config().set_ignored_paths(paths=[signature])
    ).sign(tmp_path / "artifact", signature)
    manifest = build_manifest(tmp_path / "artifact")
    check_signature(signature.read_bytes(), manifest, keys.read_public(public), "there")


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("none", "signature_missing"),
        ("stranger", "signature_wrong"),
        ("other files", "signature_wrong"),
        ("garbage", "signature_unreadable"),
    ],
)
def test_what_nobody_trusted_signed_is_refused(tmp_path: Path, damage: str, code: str) -> None:
    """Each with a message that names the artifact and a remedy."""
    write_artifact(tmp_path / "artifact", FILES)
    manifest = build_manifest(tmp_path / "artifact")
    private, public = key_pair(tmp_path)
    bundle: bytes | None = sign_manifest(manifest, keys.read_private(private))
    if damage == "none":
        bundle = None
    elif damage == "stranger":
        bundle = sign_manifest(manifest, keys.read_private(key_pair(tmp_path, "other")[0]))
    elif damage == "other files":
        (tmp_path / "artifact" / "config.json").write_bytes(b"{}")
        manifest = build_manifest(tmp_path / "artifact")
    else:
        bundle = json.dumps([1]).encode()
    check_signature(bundle, manifest, (), "there")
    with pytest.raises(TrustError, match="there") as caught:
        check_signature(bundle, manifest, keys.read_public(public), "there")
    assert (caught.value.code, bool(caught.value.remedy)) == (code, True)


def test_a_file_may_hold_several_keys(tmp_path: Path) -> None:
    """The old and the new key are both trusted while they are changed."""
    publics = b"".join(key_pair(tmp_path, name)[1].read_bytes() for name in "ab")
    (tmp_path / "both").write_bytes(publics)
    assert len(keys.read_public(tmp_path / "both")) == 2
