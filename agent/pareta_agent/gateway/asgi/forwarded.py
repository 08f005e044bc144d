"""Forwarded headers: the address at which a caller reached the load balancer before this node. Pure.

The address only goes into links within that caller's own answers (`url`, `upload_url`), so no header needs trust.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pareta_agent.gateway.downstream.host_allowlist import Hosts

_SCHEMES: Final = ("http", "https")


def reached(headers: Mapping[str, str], scheme: str, hosts: Hosts) -> tuple[str, str]:
    """(scheme, host) as the caller sees both; this node's own if a header is absent or malformed."""
    proto, host = (_first(headers.get(name, "")) for name in ("x-forwarded-proto", "x-forwarded-host"))
    own = headers.get("host", "")
    usable = bool(host) and hosts.refusal(host.encode("latin-1")) is None
    return proto.lower() if proto.lower() in _SCHEMES else scheme, host if usable else own


def _first(value: str) -> str:
    """The first of the values that proxies append."""
    return value.partition(",")[0].strip()
