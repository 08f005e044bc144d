"""Rate limit: admits a key's requests by requests a minute, tokens a minute and requests at once.

Each rate is a token bucket that holds a minute's worth and fills steadily. A request takes the worst case in tokens
on entry and returns the unused part at the end. No I/O; the caller supplies the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pareta_agent.clock import Clock
from pareta_agent.contract.grant import GrantLimits

_MINUTE_S = 60.0
Kind = Literal["requests", "tokens", "concurrency"]


@dataclass(frozen=True, slots=True)
class Excess:
    """The limit that refuses a request. `retry_after_s` None: the request is larger than the limit, so waiting does
    not help.
    """

    kind: Kind
    limit: int
    retry_after_s: float | None


@dataclass(slots=True)
class Permit:
    """An admitted request; return the permit once, by `Limiter.leave`."""

    key_id: str
    tokens: int
    open: bool = True


@dataclass(slots=True)
class _Bucket:
    limit: int
    level: float
    filled_s: float

    def fill(self, limit: int, now_s: float) -> None:
        """Fills the bucket up to `now_s`; a changed limit applies from now on."""
        self.limit = limit
        self.level = min(limit, self.level + (now_s - self.filled_s) * limit / _MINUTE_S)
        self.filled_s = now_s

    def wait_s(self, amount: float) -> float | None:
        """Returns the seconds until `amount` fits: 0 now, None never."""
        if amount > self.limit:
            return None
        return max(0.0, (amount - self.level) * _MINUTE_S / self.limit)


@dataclass(slots=True)
class _Usage:
    buckets: dict[Kind, _Bucket] = field(default_factory=dict)
    running: int = 0


class Limiter:
    """Limits by key id. A key without limits costs one comparison."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, _Usage] = {}

    def enter(self, key_id: str, limits: GrantLimits, tokens: int) -> Permit | Excess:
        """Returns a permit for a request of up to `tokens`, or the exceeded limit; a refusal takes nothing."""
        if limits.none:
            return Permit(key_id, 0, open=False)
        usage = self._keys.setdefault(key_id, _Usage())
        if limits.concurrency is not None and usage.running >= limits.concurrency:
            return Excess("concurrency", limits.concurrency, 1.0)
        wanted = self._wanted(usage, limits, tokens)
        for kind, bucket, amount in wanted:
            if (wait_s := bucket.wait_s(amount)) != 0.0:
                return Excess(kind, bucket.limit, wait_s)
        for _, bucket, amount in wanted:
            bucket.level -= amount
        usage.running += 1
        return Permit(key_id, tokens)

    def leave(self, permit: Permit, used_tokens: int) -> None:
        """Returns the unused tokens; an overrun is taken from the following minutes."""
        if not permit.open:
            return
        permit.open = False
        usage = self._keys[permit.key_id]
        usage.running -= 1
        if (bucket := usage.buckets.get("tokens")) is not None:
            bucket.level = min(bucket.limit, bucket.level + permit.tokens - used_tokens)

    def headers(self, key_id: str, limits: GrantLimits) -> dict[str, str]:
        """Returns the `x-ratelimit-*` headers for the key at this moment; empty without limits."""
        if limits.none:
            return {}
        usage = self._keys.get(key_id, _Usage())
        found = {}
        for kind, bucket, _ in self._wanted(usage, limits, 0):
            found[f"x-ratelimit-limit-{kind}"] = str(bucket.limit)
            found[f"x-ratelimit-remaining-{kind}"] = str(max(0, int(bucket.level)))
            found[f"x-ratelimit-reset-{kind}"] = f"{bucket.wait_s(bucket.limit) or 0.0:.3f}s"
        return found

    def _wanted(self, usage: _Usage, limits: GrantLimits, tokens: int) -> list[tuple[Kind, _Bucket, int]]:
        """Returns the rates that apply, filled up to now, with the amount that the request takes from each."""
        now_s, found = self._clock.mono_s(), []
        rates: tuple[tuple[Kind, int | None, int], ...] = (
            ("requests", limits.requests_per_minute, 1),
            ("tokens", limits.tokens_per_minute, tokens),
        )
        for kind, limit, amount in rates:
            if limit is not None:
                bucket = usage.buckets.setdefault(kind, _Bucket(limit, limit, now_s))
                bucket.fill(limit, now_s)
                found.append((kind, bucket, amount))
        return found
