"""Idempotency cache: stores answers by idempotency key for a while; a repeated call costs nothing.

The cache is in memory only, because answers belong to the callers and not on the node's disk. After a restart a
repeated call is a new call.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from pareta_agent.clock import Clock
from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.ports import IdempotencyKey

Scope = tuple[str, ...]
MOST: Final = 10_000
LARGEST_BYTES: Final = 2**20


@dataclass(slots=True)
class CachedAnswer:
    """The call of a key. `document` is None while the call runs, and for a stream or a large answer."""

    digest: bytes
    request_id: str
    state: Literal["running", "answered"] = "running"
    document: bytes | None = None
    until_s: float = 0.0


class IdempotencyCache:
    """By scope: org, key, endpoint, route and idempotency key. The oldest answers are dropped first."""

    def __init__(self, max_bytes: int, ttl_s: float, clock: Clock) -> None:
        self._max_bytes, self._ttl_s, self._clock = max_bytes, ttl_s, clock
        self._running: dict[Scope, CachedAnswer] = {}
        self._answered: dict[Scope, CachedAnswer] = {}
        self._bytes = 0

    def begin(self, scope: Scope, digest: bytes, request_id: str) -> CachedAnswer | Problem:
        """A running entry: the caller makes the call. An answered entry: the document is the answer.

        A problem for a key in use, a key with another body, or an answer that is not stored.
        """
        self._forget()
        found = self._running.get(scope) or self._answered.get(scope)
        if found is None:
            entry = self._running[scope] = CachedAnswer(digest, request_id)
            return entry
        if found.digest != digest:
            return Problem("idempotency_mismatch", retry=False)
        if found.state == "running":
            return Problem("idempotency_in_flight", retry=False)
        return found if found.document is not None else Problem("idempotency_not_kept", retry=False)

    def answered(self, scope: Scope, document: bytes | None) -> None:
        """Stores the answer of a recorded call, or the fact that the answer is not kept."""
        entry = self._running.pop(scope)
        entry.state, entry.until_s = "answered", self._clock.mono_s() + self._ttl_s
        if document is not None and len(document) <= LARGEST_BYTES:
            entry.document = document
            self._bytes += len(document)
        self._answered[scope] = entry
        self._forget()

    def failed(self, scope: Scope) -> None:
        """Frees the key of a call that cost nothing."""
        self._running.pop(scope, None)

    def _forget(self) -> None:
        """Drops expired and excess entries, and the oldest documents above the size limit."""
        now_s = self._clock.mono_s()
        while self._answered:
            scope, oldest = next(iter(self._answered.items()))
            if oldest.until_s > now_s and len(self._answered) <= MOST:
                break
            self._bytes -= len(oldest.document or b"")
            del self._answered[scope]
        for entry in self._answered.values() if self._bytes > self._max_bytes else ():
            self._bytes -= len(entry.document or b"")
            entry.document = None
            if self._bytes <= self._max_bytes:
                break


def idempotency_key_of(name: bytes | None, body: bytes | bytearray) -> IdempotencyKey | None:
    return None if name is None else IdempotencyKey(name.decode("ascii"), hashlib.sha256(body).digest())
