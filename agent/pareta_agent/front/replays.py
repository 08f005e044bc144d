"""Answers that were given under an idempotency key, kept for a while: the same question again costs nothing again.

Kept in this process's memory alone, because answers are the callers' and not for our disk: a restart forgets them, and
what is asked again then is a new call.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from pareta_agent.clock import Clock
from pareta_agent.front.envelope import Problem
from pareta_agent.front.ports import IdempotencyKey

Scope = tuple[str, ...]
MOST: Final = 10_000
LARGEST_BYTES: Final = 2**20


@dataclass(slots=True)
class CachedAnswer:
    """One key's call. `document` is None while it runs, and of an answer that was too large or a stream."""

    digest: bytes
    request_id: str
    state: Literal["running", "answered"] = "running"
    document: bytes | None = None
    until_s: float = 0.0


class IdempotencyCache:
    """By scope: who asked, which endpoint, on which route, under which key. The oldest answers make room."""

    def __init__(self, max_bytes: int, ttl_s: float, clock: Clock) -> None:
        self._max_bytes, self._ttl_s, self._clock = max_bytes, ttl_s, clock
        self._running: dict[Scope, CachedAnswer] = {}
        self._answered: dict[Scope, CachedAnswer] = {}
        self._bytes = 0

    def begin(self, scope: Scope, digest: bytes, request_id: str) -> CachedAnswer | Problem:
        """An entry that runs: the call is the caller's to make. One that is answered: its document is the answer.

        A problem for a key that is in use, was used for another body, or whose answer is not kept.
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
        """The call completed and was recorded as such; what is not kept of it is known to have been answered."""
        entry = self._running.pop(scope)
        entry.state, entry.until_s = "answered", self._clock.mono_s() + self._ttl_s
        if document is not None and len(document) <= LARGEST_BYTES:
            entry.document = document
            self._bytes += len(document)
        self._answered[scope] = entry
        self._forget()

    def failed(self, scope: Scope) -> None:
        """The call cost nothing, so its key may be used again."""
        self._running.pop(scope, None)

    def _forget(self) -> None:
        """The expired and the too many, whole; of what is too large together, the oldest documents."""
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
