"""Store settings: name the files with the operator's trust and credentials. Paths only, never values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Settings of remote stores.

    docker_config      config.json with `auths`, as docker, podman and oras write it
    ca_file            PEM bundle, trusted beside the system's
    hf_endpoint        URL of the private mirror for `hf://`
    hf_token_file      file with the mirror's bearer token
    object_store_file  JSON file of obstore's options for `s3://`, `gs://` and `az://`
    plain_http         hosts without TLS
    """

    docker_config: Path | None = None
    ca_file: Path | None = None
    hf_endpoint: str | None = None
    hf_token_file: Path | None = None
    object_store_file: Path | None = None
    plain_http: tuple[str, ...] = ("localhost", "127.0.0.1")
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 60.0
