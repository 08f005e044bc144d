"""What stores need from the operator: whom to trust and with which credentials. Files, never values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """`docker_config` is a config.json with `auths`, as docker, podman and oras write it.

    `ca_file` is a PEM bundle that is trusted beside the system's. `plain_http` names the hosts that are spoken
    to without TLS. `hf_endpoint` is the private mirror for `hf://`, `hf_token_file` holds its bearer token.
    `object_store_file` holds options of `s3://`, `gs://` and `az://` as JSON, named as obstore names them.
    """

    docker_config: Path | None = None
    ca_file: Path | None = None
    hf_endpoint: str | None = None
    hf_token_file: Path | None = None
    object_store_file: Path | None = None
    plain_http: tuple[str, ...] = ("localhost", "127.0.0.1")
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 60.0
