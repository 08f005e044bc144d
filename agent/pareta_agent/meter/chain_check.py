"""Chain verification: checks that a chain is whole. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pareta_agent.contract.usage_event import NO_HASH, SpoolEntry


@dataclass(frozen=True, slots=True)
class Flaw:
    epoch: int
    sequence: int
    what: str


def verify(entries: Iterable[SpoolEntry]) -> Iterator[Flaw]:
    """Yields the flaws of entries in order; an epoch's first stored entry may follow trimmed entries."""
    previous: SpoolEntry | None = None
    for entry in entries:
        before = previous if previous is not None and previous.epoch == entry.epoch else None
        for what in _flaws(before, entry):
            yield Flaw(entry.epoch, entry.sequence, what)
        previous = entry


def _flaws(before: SpoolEntry | None, entry: SpoolEntry) -> Iterator[str]:
    if not entry.intact:
        yield "the bytes do not match the hash"
    if before is None:
        if entry.sequence == 1 and entry.prev_hash != NO_HASH:
            yield "the first entry chains to a previous hash"
        return
    if entry.sequence != before.sequence + 1:
        yield f"{before.sequence + 1} is missing before this entry"
    elif entry.prev_hash != before.hash:
        yield "the entry does not chain to the previous entry"
