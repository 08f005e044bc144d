"""What the plane said of each caller's key, remembered for as long as it allowed.

The hot path is one sha256 and one dict. Keys themselves are never kept, only their hashes. Where the answers come
from is the constructor's business.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from pareta_agent.access.grant import KeyGrant
from pareta_agent.clock import Clock
from pareta_agent.errors import PlaneError


@dataclass(frozen=True, slots=True)
class KeySettings:
    """`negative_ttl_s` bounds how long an unknown key stays unknown, `no_credit_ttl_s` how long a top-up may wait.

    `offline_grace_s` is how long past its ttl a known key is believed while the plane is away.
    """

    max_keys: int = 10_000
    negative_ttl_s: float = 5.0
    no_credit_ttl_s: float = 2.0
    offline_grace_s: float = 300.0
    introspect_timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class _Known:
    """`revision` is the key set's when the plane said it: under a later one it is asked again."""

    grant: KeyGrant | None
    until_s: float
    revision: int | None


class KeyCache:
    """Grants by key hash; `introspect` maps a sha256 in hex to a grant, None for no such key, PlaneError when away."""

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
        """The grant if it is known and fresh; None says only that `grant` must be asked."""
        return self.known(digest_of(bearer))

    def known(self, digest: bytes) -> KeyGrant | None:
        """What `peek` says of the key with that digest."""
        known = self._fresh(digest)
        return None if known is None else known.grant

    async def grant(self, bearer: bytes | str) -> KeyGrant | None:
        """The grant, None for a key that does not exist. One question at a time is asked per key; nobody waits for it
        where what was said before the last revision still holds.

        Raises PlaneError when the plane is away and nothing recent enough is known.
        """
        return (await self.lookup(digest_of(bearer)))[0]

    async def lookup(self, digest: bytes) -> tuple[KeyGrant | None, float]:
        """What `grant` says of the key with that digest, and for how many seconds it is believed."""
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
        """Takes the revision of any answer. Where the key set has changed, the keys whose sha256 is in `withdrawn` are
        forgotten, all of them where it is None; the others are asked for again, and usable until then."""
        if revision == self._revision:
            return
        self._revision = revision
        self._known = {} if withdrawn is None else self._kept(frozenset(withdrawn))
        for listener in self._listeners:
            listener(revision)

    def listen(self, listener: Callable[[int], None]) -> None:
        """Calls `listener` with each new revision: what was said under an earlier one may no longer hold."""
        self._listeners.append(listener)

    def _kept(self, withdrawn: Collection[str]) -> dict[bytes, _Known]:
        return {
            digest: known
            for digest, known in self._known.items()
            if digest.hex() not in withdrawn and known.grant is not None and known.grant.state == "active"
        }

    def _fresh(self, digest: bytes) -> _Known | None:
        """What the plane said under the present revision, within its ttl."""
        known = self._believed(digest, 0.0)
        return known if known is not None and known.revision == self._revision else None

    def _believed(self, digest: bytes, grace_s: float) -> _Known | None:
        known = self._known.get(digest)
        return known if known is not None and self._clock.mono_s() < known.until_s + grace_s else None

    def _asked(self, digest: bytes) -> asyncio.Task[KeyGrant | None]:
        """The question that is under way, or a new one."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.ensure_future(self._ask(digest))
            asking.add_done_callback(lambda asked: self._answered(digest, asked))
        return asking

    def _answered(self, digest: bytes, asked: asyncio.Task[KeyGrant | None]) -> None:
        self._asking.pop(digest, None)
        if not asked.cancelled():
            asked.exception()  # perhaps nobody waited for it

    async def _ask(self, digest: bytes) -> KeyGrant | None:
        revision = self._revision
        try:
            async with asyncio.timeout(self._settings.introspect_timeout_s):
                grant = await self._introspect(digest.hex())
        except TimeoutError:
            raise PlaneError(
                "plane_slow", "the control plane did not say whose key this is in time"
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
    """What stands for a key wherever one is remembered."""
    return hashlib.sha256(bearer if isinstance(bearer, bytes) else bearer.encode()).digest()
