"""Gateway settings: limits in bytes, seconds and counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits of the gateway, each enforced before the limited bytes are read.

    - A body with media may have `max_media_body_bytes`, of which `max_body_bytes` may be text.
    - A call waits at most `hold_s` for an endpoint that starts or wakes; a queued stream receives a keepalive comment
      every `comfort_s`.
    """

    workers: int = 0
    max_body_bytes: int = 10 * 2**20
    max_media_body_bytes: int = 32 * 2**20
    max_uploads_bytes: int = 512 * 2**20
    max_answer_bytes: int = 64 * 2**20
    max_header_bytes: int = 32 * 2**10
    max_headers: int = 100
    header_timeout_s: float = 15.0
    body_timeout_s: float = 60.0
    request_timeout_s: float = 600.0
    stall_timeout_s: float = 120.0
    keep_alive_s: float = 75.0
    connect_timeout_s: float = 2.0
    pool_idle_s: float = 30.0
    max_in_flight_per_replica: int = 4096
    min_in_flight_per_replica: int = 64
    in_flight_per_seat: int = 16
    max_in_flight_per_key: int = 2048
    max_connections: int = 16384
    max_connections_per_address: int = 8192
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    idempotency_ttl_s: float = 3600.0
    idempotency_bytes: int = 64 * 2**20
    off_loop_body_bytes: int = 256 * 2**10
    hold_s: float = 60.0
    comfort_s: float = 15.0
    hold_bytes: int = 256 * 2**20
    queue_per_endpoint: int = 2048
    queue_per_org: int = 4096

    def most_body_bytes(self, media: bool) -> int:
        """The maximum body of a route, with or without media."""
        return self.max_media_body_bytes if media else self.max_body_bytes
