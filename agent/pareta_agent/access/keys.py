"""Key cache: stores the plane's answer about each caller's key, for as long as the answer allows.

The hot path is one sha256 and one dict lookup. Keys are never stored, only hashes. The constructor's caller decides
where answers come from.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from pareta_agent.clock import Clock
from pareta_agent.contract.grant import KeyGrant
from pareta_agent.errors import PlaneError


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Lifetimes of answers.

    `negative_ttl_s`: an unknown key stays unknown that long.
    `no_credit_ttl_s`: a top-up may take that long to show.
    `offline_grace_s`: a known key is accepted that long past the ttl while the plane is away.
    """

    max_keys: int = 10_000
    negative_ttl_s: float = 5.0
    no_credit_ttl_s: float = 2.0
    offline_grace_s: float = 300.0
    introspect_timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class _Known:
    """`revision` is the key set's at the time of the answer; a later revision makes the answer stale."""

    grant: KeyGrant | None
    until_s: float
    revision: int | None


class KeyCache:
    """Grants by key hash.

    `introspect` maps a sha256 in hex to a grant; None for no such key, PlaneError when the plane is away.
    """

    def __init__(
        self,
        introspect: Callable[[str], Awaitable[KeyGrant | None]],
        clock: Clock,
        settings: KeySettings = KeySettings(),
    ) -> None:
        self._introspect, self._clock, self._settings = introspect, clock, settings
        self._known: dict[bytes, _Known] = {}
        self._asking: dict[bytes, asyncio.Task[KeyGrant | None]] = {}
        self._revision: int | None = None
        self._listeners: list[Callable[[int], None]] = []

    def peek(self, bearer: bytes | str) -> KeyGrant | None:
        """Returns a fresh cached grant; None means that `grant` must be called."""
        return self.known(digest_of(bearer))

    def known(self, digest: bytes) -> KeyGrant | None:
        """Returns the same as `peek`, by the key's digest."""
        known = self._fresh(digest)
        return None if known is None else known.grant

    async def grant(self, bearer: bytes | str) -> KeyGrant | None:
        """Returns the grant, None for an unknown key.

        At most one introspection a key is under way. No caller waits while an answer from before the last revision is
        still valid.

        Raises PlaneError when the plane is away and no recent answer is stored.
        """
        return (await self.lookup(digest_of(bearer)))[0]

    async def lookup(self, digest: bytes) -> tuple[KeyGrant | None, float]:
        """Returns the same as `grant`, by the key's digest, and the seconds for which the answer stays valid."""
        grant = await self._grant(digest)
        known = self._fresh(digest)
        return grant, 0.0 if known is None else known.until_s - self._clock.mono_s()

    async def _grant(self, digest: bytes) -> KeyGrant | None:
        if (fresh := self._fresh(digest)) is not None:
            return fresh.grant
        asking = self._asked(digest)
        if (known := self._believed(digest, 0.0)) is not None:
            return known.grant
        try:
            return await asyncio.shield(asking)
        except PlaneError:
            if (known := self._believed(digest, self._settings.offline_grace_s)) is None:
                raise
            return known.grant

    def revise(self, revision: int, withdrawn: Collection[str] | None = None) -> None:
        """Takes the key set's revision from any answer of the plane.

        After a change, the keys whose sha256 is in `withdrawn` are dropped (all keys when None). Every other key is
        introspected again, and stays usable until then.
        """
        if revision == self._revision:
            return
        self._revision = revision
        self._known = {} if withdrawn is None else self._kept(frozenset(withdrawn))
        for listener in self._listeners:
            listener(revision)

    def listen(self, listener: Callable[[int], None]) -> None:
        """Calls `listener` with each new revision, because answers from an earlier revision may be outdated."""
        self._listeners.append(listener)

    def _kept(self, withdrawn: Collection[str]) -> dict[bytes, _Known]:
        return {
            digest: known
            for digest, known in self._known.items()
            if digest.hex() not in withdrawn and known.grant is not None and known.grant.state == "active"
        }

    def _fresh(self, digest: bytes) -> _Known | None:
        """Returns the answer of the present revision, within the ttl."""
        known = self._believed(digest, 0.0)
        return known if known is not None and known.revision == self._revision else None

    def _believed(self, digest: bytes, grace_s: float) -> _Known | None:
        known = self._known.get(digest)
        return known if known is not None and self._clock.mono_s() < known.until_s + grace_s else None

    def _asked(self, digest: bytes) -> asyncio.Task[KeyGrant | None]:
        """Returns the introspection under way, or starts one."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.ensure_future(self._ask(digest))
            asking.add_done_callback(lambda asked: self._answered(digest, asked))
        return asking

    def _answered(self, digest: bytes, asked: asyncio.Task[KeyGrant | None]) -> None:
        self._asking.pop(digest, None)
        if not asked.cancelled():
            asked.exception()  # the exception counts as retrieved even when no caller waited

    async def _ask(self, digest: bytes) -> KeyGrant | None:
        revision = self._revision
        try:
            async with asyncio.timeout(self._settings.introspect_timeout_s):
                grant = await self._introspect(digest.hex())
        except TimeoutError:
            raise PlaneError(
                "plane_slow", "the control plane did not answer the key introspection in time"
            ) from None
        if revision == self._revision:
            self._remember(digest, grant)
        return grant

    def _remember(self, digest: bytes, grant: KeyGrant | None) -> None:
        if len(self._known) >= self._settings.max_keys:
            del self._known[next(iter(self._known))]
        self._known[digest] = _Known(grant, self._clock.mono_s() + self._ttl_s(grant), self._revision)

    def _ttl_s(self, grant: KeyGrant | None) -> float:
        if grant is None:
            return self._settings.negative_ttl_s
        return min(grant.ttl_s, self._settings.no_credit_ttl_s) if grant.state == "no_credit" else grant.ttl_s


def digest_of(bearer: bytes | str) -> bytes:
    """Returns the digest by which a key is stored everywhere."""
    return hashlib.sha256(bearer if isinstance(bearer, bytes) else bearer.encode()).digest()
