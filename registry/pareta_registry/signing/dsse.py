"""DSSE envelopes: signs and verifies small documents, in the format of sigstore and in-toto.

Format and encoding: https://github.com/secure-systems-lab/dsse (v1). The payload's meaning belongs to the caller.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from pareta_registry.errors import TrustError
from pareta_registry.signing.keys import PrivateKey, PublicKey, is_by, key_id, signature_of


def wrap(payload: bytes, payload_type: str, keys: Sequence[PrivateKey] = ()) -> dict[str, Any]:
    """An envelope with one signature a key; without keys an envelope with an empty list of signatures."""
    message = _encoded(payload_type, payload)
    signatures = [
        {
            "keyid": key_id(key.public_key()),
            "sig": base64.b64encode(signature_of(key, message)).decode(),
        }
        for key in keys
    ]
    body = base64.b64encode(payload).decode()
    return {"payloadType": payload_type, "payload": body, "signatures": signatures}


def unwrap(envelope: Any, payload_type: str, trusted: Sequence[PublicKey], where: str) -> bytes:
    """The payload, if a key of `trusted` signed the envelope. Without pinned keys every signature passes.

    TrustError `envelope_invalid`, `signature_missing` or `signature_wrong`, with `where` as the source of the
    envelope.
    """
    kind, payload, signatures = _read(envelope, where)
    if kind != payload_type:
        raise TrustError(
            "envelope_invalid", f"{where} holds {kind!r}, not {payload_type!r}", "correct the address"
        )
    if not trusted:
        return payload
    if not signatures:
        raise unsigned(where)
    message = _encoded(payload_type, payload)
    if not any(is_by(key, signature, message) for key in trusted for signature in signatures):
        raise TrustError(
            "signature_wrong",
            f"{where} was altered, or signed with a key that this host does not pin",
            "sign with a pinned key, or pin the new key on this host",
        )
    return payload


def unsigned(where: str) -> TrustError:
    return TrustError(
        "signature_missing",
        f"{where} is not signed, and this host pins keys",
        "sign with `pareta-registry sign`",
    )


def _read(envelope: Any, where: str) -> tuple[object, bytes, list[bytes]]:
    try:
        if not isinstance(envelope, Mapping):
            raise TypeError
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(entry["sig"], validate=True) for entry in envelope["signatures"]]
        return envelope["payloadType"], payload, signatures
    except (ValueError, KeyError, TypeError):
        raise TrustError(
            "envelope_invalid", f"{where} is no signed document", "publish and sign the document again"
        ) from None


def _encoded(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
