"""Model signatures: signs and verifies artifacts in the OpenSSF Model Signing format (v1.0), with the operator's key.

A sigstore bundle around an in-toto statement with the sha256 of every file: compatible with `model_signing sign key`
and `model_signing verify key`. The manifest holds the same hashes, so a signature is checked before the first byte is
fetched. Format: https://github.com/ossf/model-signing-spec
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pareta_registry.artifacts.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest
from pareta_registry.documents.canonical import canonical_json, read_json
from pareta_registry.errors import TrustError
from pareta_registry.signing.dsse import unsigned, unwrap, wrap
from pareta_registry.signing.keys import PrivateKey, PublicKey, key_id

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"


def sign_manifest(manifest: Manifest, key: PrivateKey) -> bytes:
    """The signature bundle, to be stored beside the artifact."""
    envelope = wrap(canonical_json(_statement(manifest)), _PAYLOAD_TYPE, [key])
    public = {"publicKey": {"hint": key_id(key.public_key()).removeprefix("sha256:")}, "tlogEntries": []}
    return canonical_json(
        {"mediaType": BUNDLE_TYPE, "verificationMaterial": public, "dsseEnvelope": envelope}
    )


def bundle_of(root: Path, manifest: Manifest, key: PrivateKey | None) -> bytes | None:
    """The bundle for the artifact in `root`: with `key` a new signature, else the present bundle, None for none."""
    if key is not None:
        return sign_manifest(manifest, key)
    path = root / SIGNATURE_NAME
    return path.read_bytes() if path.is_file() else None


def check_signature(
    bundle: bytes | None, manifest: Manifest, trusted: Sequence[PublicKey], where: str
) -> None:
    """TrustError unless a key of `trusted` signed exactly the files of `manifest`. Without keys everything passes."""
    if not trusted:
        return
    if bundle is None:
        raise unsigned(where)
    signed = _files(unwrap(_envelope(bundle, where), _PAYLOAD_TYPE, trusted, where), where)
    signed.pop(MANIFEST_NAME, None)  # signed too if the whole directory was signed; repeats the other hashes
    if signed != {file.path: file.sha256 for file in manifest.files}:
        raise TrustError(
            "signature_wrong",
            f"the signature of {where} covers other files than its manifest",
            "sign the artifact again: `pareta-registry sign`",
        )


def _statement(manifest: Manifest) -> dict[str, Any]:
    files = sorted(manifest.files, key=lambda file: file.path)
    root = hashlib.sha256(b"".join(bytes.fromhex(file.sha256) for file in files)).hexdigest()
    serialization = {
        "method": "files",
        "hash_type": "sha256",
        "allow_symlinks": False,
        "ignore_paths": [MANIFEST_NAME, SIGNATURE_NAME],
    }
    resources = [{"name": file.path, "algorithm": "sha256", "digest": file.sha256} for file in files]
    return {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": manifest.digest, "digest": {"sha256": root}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {"serialization": serialization, "resources": resources},
    }


def _envelope(bundle: bytes, where: str) -> Any:
    document = read_json(bundle)
    if not isinstance(document, dict) or "dsseEnvelope" not in document:
        raise _unreadable(where)
    return document["dsseEnvelope"]


def _files(statement: bytes, where: str) -> dict[str, str]:
    """The signed hashes by path; only for statements of whole files by sha256."""
    try:
        document = read_json(statement)
        resources = document["predicate"]["resources"]
        found = {str(entry["name"]): str(entry["digest"]) for entry in resources}
        plain = all(entry["algorithm"] == "sha256" for entry in resources) and len(found) == len(resources)
        known = (document["_type"], document["predicateType"]) == (_STATEMENT_TYPE, _PREDICATE_TYPE)
    except (KeyError, TypeError):
        raise _unreadable(where) from None
    if not (plain and known):
        raise _unreadable(where)
    return found


def _unreadable(where: str) -> TrustError:
    return TrustError(
        "signature_unreadable",
        f"the signature of {where} is no model signature over sha256 of files",
        "sign with `pareta-registry sign` or `model_signing sign key`",
    )
