"""A private CA's server certificate for 127.0.0.1, and JSON web tokens signed with its key, by openssl."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    pem: Path
    key: Path

    @property
    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem, self.key)
        return context

    def token(self, claims: dict[str, object]) -> str:
        """RS256, with the certificate in the header as docker-registry wants it."""
        body = "".join(line for line in self.pem.read_text().splitlines() if "CERTIFICATE" not in line)
        now = int(time.time())
        times: dict[str, object] = {"iat": now, "nbf": now - 5, "exp": now + 300, "jti": "1"}
        head = _encoded(json.dumps({"typ": "JWT", "alg": "RS256", "x5c": [body]}).encode())
        signed = f"{head}.{_encoded(json.dumps(times | claims).encode())}"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.key)],
            input=signed.encode(),
            capture_output=True,
            check=True,
        ).stdout
        return f"{signed}.{_encoded(signature)}"


def make_certificate(root: Path, days: int = 2) -> Certificate:
    made = Certificate(root / "cert.pem", root / "key.pem")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days), "-subj", "/CN=test",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(made.key), "-out", str(made.pem),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return made


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
