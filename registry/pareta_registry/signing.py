"""Signatures over small documents: DSSE envelopes with Ed25519 keys of the operator's own, no service needed.

Envelope and pre-authentication encoding: https://github.com/secure-systems-lab/dsse (v1). A catalog names its
artifacts by digest, so whoever signs the catalog vouches for every byte that a node loads.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pareta_registry.canonical import canonical_json, sha256_digest
from pareta_registry.errors import TrustError


def generate_key() -> tuple[bytes, bytes]:
    """A private key and its public key, both PEM."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, _public_pem(key.public_key())


def read_private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError(
            "key_unreadable", f"{path} is no Ed25519 private key", "make one: `pareta-registry keygen`"
        )
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError(
            "key_unreadable", f"{path} is no Ed25519 public key", "give the .pub file of `keygen`"
        )
    return key


def key_id(key: Ed25519PublicKey) -> str:
    return sha256_digest(_public_pem(key))


def wrap(payload: bytes, payload_type: str, keys: Sequence[Ed25519PrivateKey] = ()) -> bytes:
    """An envelope with one signature a key; with no key it is unsigned, and says so."""
    message = _encoded(payload_type, payload)
    signatures = [
        {"keyid": key_id(key.public_key()), "sig": base64.b64encode(key.sign(message)).decode()}
        for key in keys
    ]
    body = base64.b64encode(payload).decode()
    return canonical_json({"payloadType": payload_type, "payload": body, "signatures": signatures})


def unwrap(envelope: bytes, payload_type: str, trusted: Sequence[Ed25519PublicKey], where: str) -> bytes:
    """The payload, once one of `trusted` has signed it (with none pinned: whoever did).

    TrustError `signature_missing` or `signature_wrong`, naming `where` it came from.
    """
    try:
        document = json.loads(envelope)
        payload = base64.b64decode(document["payload"], validate=True)
        signatures = [base64.b64decode(entry["sig"], validate=True) for entry in document["signatures"]]
        kind = document["payloadType"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TrustError(
            "envelope_invalid", f"{where} is no signed document", "promote the catalog again"
        ) from None
    if kind != payload_type:
        raise TrustError(
            "envelope_invalid", f"{where} holds {kind!r}, not {payload_type!r}", "ask the right place"
        )
    if not trusted:
        return payload
    if not signatures:
        raise TrustError(
            "signature_missing",
            f"{where} is not signed, and this host pins a key",
            "sign it: `pareta-registry sign`",
        )
    message = _encoded(payload_type, payload)
    if not any(_is_by(key, signature, message) for key in trusted for signature in signatures):
        raise TrustError(
            "signature_wrong",
            f"{where} was altered, or signed with a key that this host does not pin",
            "sign it with a pinned key, or pin the new one on this host",
        )
    return payload


def _is_by(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _encoded(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
