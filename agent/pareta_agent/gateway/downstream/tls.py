"""TLS certificate of the port: read from files, validated as a whole, and replaced under a running listener.

New handshakes use the newest valid certificate; open connections keep theirs. Invalid files (partly written, or with
the key of another certificate) change nothing.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from pareta_agent.errors import ConfigError

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A certificate with the key, as a context for handshakes; `expires_s` is a Unix time."""

    context: ssl.SSLContext
    expires_s: float


def load(cert: Path, key: Path) -> Loaded:
    """Raises ConfigError `tls_unreadable` or `tls_invalid`, naming the file."""
    try:
        chain, _ = cert.read_bytes(), key.read_bytes()
    except OSError as error:
        message = f"{error.filename}: {error.strerror}"
        remedy = "name PEM files that this user can read (`front.tls_cert_file`, `front.tls_key_file`)"
        raise ConfigError("tls_unreadable", message, remedy) from None
    try:
        leaf = x509.load_pem_x509_certificate(chain)
    except ValueError:
        message = f"{cert} does not begin with a certificate in PEM"
        raise ConfigError("tls_invalid", message, "put the certificate first, then its chain") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password="")  # else OpenSSL would prompt on the terminal
    except (ssl.SSLError, ValueError) as error:
        why = (
            "belongs to another certificate" if "MISMATCH" in str(error) else "is no plain private key in PEM"
        )
        message = f"the key in {key} {why} ({cert})"
        raise ConfigError(
            "tls_invalid", message, "give the certificate's own key, without a password"
        ) from None
    return Loaded(context, leaf.not_valid_after_utc.timestamp())


class Certificate:
    """The newest valid content of the files. `context` is the listener's: a handshake uses the newest."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Raises like `load`."""
        self._cert, self._key = cert, key
        self.files = (cert, key)
        self._stamp = self._stamped()
        self._loaded = load(cert, key)
        self.context = load(cert, key).context
        self.context.sni_callback = self._choose

    @property
    def expires_s(self) -> float:
        return self._loaded.expires_s

    def refresh(self, force: bool = False) -> bool:
        """Reads the files again after a change; returns whether there is a new certificate. Raises like `load`."""
        stamp = self._stamped()
        if stamp == self._stamp and not force:
            return False
        self._stamp = stamp
        self._loaded = load(self._cert, self._key)
        return True

    def _choose(self, handshake: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = self._loaded.context

    def _stamped(self) -> Stamp:
        return tuple(_stamp(path) for path in (self._cert, self._key))


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes whenever the file, or a link's target, is written or replaced."""
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
