"""Signing keys: reads, makes and applies the operator's NIST P-256 keys in PEM files, as in model-signing and cosign.

Uses no key service: a host trusts the public keys in a given file.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)

from pareta_registry.documents.canonical import sha256_digest
from pareta_registry.errors import TrustError

PrivateKey = EllipticCurvePrivateKey
PublicKey = EllipticCurvePublicKey

_SCHEME = ECDSA(hashes.SHA256())
_END = b"-----END PUBLIC KEY-----"


def generate() -> tuple[bytes, bytes]:
    """A private key and the public key, both PEM."""
    key = generate_private_key(SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, _pem(key.public_key())


def read_private(path: Path) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise TrustError(
            "key_unreadable", f"{path} is no P-256 private key", "make a key with `pareta-registry keygen`"
        )
    return key


def read_public(path: Path) -> tuple[PublicKey, ...]:
    """Every public key in the file, in order: the old and the new key during a change of keys."""
    try:
        found = [
            serialization.load_pem_public_key(text.lstrip() + _END + b"\n")
            for text in path.read_bytes().split(_END)[:-1]
        ]
    except (OSError, ValueError):
        found = []
    keys = tuple(key for key in found if _is_p256(key))
    if not keys or len(keys) != len(found):
        raise TrustError(
            "key_unreadable", f"{path} holds no P-256 public keys", "use the .pub file of `keygen`"
        )
    return keys  # type: ignore[return-value]  # mypy does not see through _is_p256


def key_id(key: PublicKey) -> str:
    return sha256_digest(_pem(key))


def signature_of(key: PrivateKey, message: bytes) -> bytes:
    return key.sign(message, _SCHEME)


def is_by(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message, _SCHEME)
    except InvalidSignature:
        return False
    return True


def _is_p256(key: object) -> bool:
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)


def _pem(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
