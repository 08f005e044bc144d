"""What a caller's key is worth, as the control plane said it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GrantLimits:
    """What a key may do at most; None is unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    @property
    def none(self) -> bool:
        """Whether nothing is limited."""
        return (
            self.requests_per_minute is None and self.tokens_per_minute is None and self.concurrency is None
        )


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """The answer of an introspection. `endpoints` is None when the key reaches all of its org's; `partial` says whether
    the org pays for what was delivered of an answer that its caller left."""

    org: str
    key_id: str
    state: Literal["active", "revoked", "no_credit"]
    endpoints: frozenset[str] | None = None
    ttl_s: float = 60.0
    limits: GrantLimits = GrantLimits()
    partial: Literal["none", "delivered"] = "none"


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Integer micro-USD per million tokens, per endpoint; the plane owns it, the node reserves by it."""

    input_micro_usd_per_mtok: int
    cached_input_micro_usd_per_mtok: int
    output_micro_usd_per_mtok: int
