"""Chain repair: finds damaged entries, repairs an entry that has a second copy, and marks every other. Pure.

An entry's hash is stored twice: in the entry's own row and, as the previous hash, in the next row. A damaged hash is
repaired from the other copy. Damaged bytes are lost: the entry keeps its sequence and is marked as lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pareta_agent.contract.usage_event import QUARANTINED, SpoolEntry, canonical, chain, item


@dataclass(frozen=True, slots=True)
class Repair:
    """`entry` as to be stored; `lost` is true where only the sequence could be kept."""

    entry: SpoolEntry
    lost: bool


def inspect(acked_hash: bytes, entries: Iterable[SpoolEntry], source: str, wall_s: float) -> Iterator[Repair]:
    """Yields repairs for one epoch's entries, in order, from the entry after `acked_hash` on."""
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
