"""Finds entries that rot on disk changed, mends what has a second witness, and marks the rest. Pure.

An entry's hash is written twice: in its own row and, as the previous hash, in the next. So a damaged hash is mended
from the other copy, while damaged bytes are gone: the entry keeps its place in the chain and says that it is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pareta_agent.meter.event import QUARANTINED, SpoolEntry, canonical, chain, item


@dataclass(frozen=True, slots=True)
class Repair:
    """`entry` as it should stand; `lost` is true where only its place could be saved."""

    entry: SpoolEntry
    lost: bool


def inspect(acked_hash: bytes, entries: Iterable[SpoolEntry], source: str, wall_s: float) -> Iterator[Repair]:
    """Repairs for one epoch's entries, in order, beginning after the one whose hash is `acked_hash`."""
    before = acked_hash
    for entry, following in _with_next(entries):
        witness = following.prev_hash if following is not None else entry.hash
        computed = chain(before, entry.body)
        if computed in (entry.hash, witness):
            mended = SpoolEntry(entry.epoch, entry.sequence, before, computed, entry.body)
            if mended != entry:
                yield Repair(mended, lost=False)
            before = computed
            continue
        digest = (
            entry.hash
            if following is None or chain(entry.hash, following.body) == following.hash
            else witness
        )
        yield Repair(_tombstone(entry, before, digest, source, wall_s), lost=True)
        before = digest


def _tombstone(entry: SpoolEntry, before: bytes, digest: bytes, source: str, wall_s: float) -> SpoolEntry:
    notice = item(QUARANTINED, {"replaces": True, "reason": "damaged on disk"}, wall_s)
    body = canonical(notice, source, entry.epoch, entry.sequence)
    return SpoolEntry(entry.epoch, entry.sequence, before, digest, body)


def _with_next(entries: Iterable[SpoolEntry]) -> Iterator[tuple[SpoolEntry, SpoolEntry | None]]:
    current: SpoolEntry | None = None
    for entry in entries:
        if current is not None:
            yield current, entry
        current = entry
    if current is not None:
        yield current, None
