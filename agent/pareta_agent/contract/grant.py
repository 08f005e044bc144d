"""Key grant: limits, endpoints and policies of a caller's key, as the control plane returned them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GrantLimits:
    """Limits of a key; None is unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    @property
    def none(self) -> bool:
        """True when nothing is limited."""
        return (
            self.requests_per_minute is None and self.tokens_per_minute is None and self.concurrency is None
        )


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """The answer of an introspection.

    `endpoints` is None for a key to all of the org's endpoints. `partial` is the org's policy for partial answers.
    """

    org: str
    key_id: str
    state: Literal["active", "revoked", "no_credit"]
    endpoints: frozenset[str] | None = None
    ttl_s: float = 60.0
    limits: GrantLimits = GrantLimits()
    partial: Literal["none", "delivered"] = "none"


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Price of an endpoint in integer micro-USD per million tokens, set by the plane; nodes reserve by this price."""

    input_micro_usd_per_mtok: int
    cached_input_micro_usd_per_mtok: int
    output_micro_usd_per_mtok: int
