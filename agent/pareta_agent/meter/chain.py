"""Hash chains: the state of every epoch's chain and the changes allowed inside one transaction.

The state decides whether an event joins an epoch's chain or is staged, and how far an acknowledgement or a rewind
moves. Only the spool's writer thread uses the state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import orjson

from pareta_agent.contract.usage_event import EPOCH_CLOSED, EPOCH_OPENED, Item, crashed, item
from pareta_agent.contract.usage_record import Admission
from pareta_agent.errors import PlaneError
from pareta_agent.meter.repair import inspect
from pareta_agent.meter.sqlite_store import ChainHead, SpoolStore

_UNSTAGED_AT_ONCE = 500


class ChainState:
    """`last` and `acked` are sequences by epoch; `head` is the end of the running epoch, None before the first."""

    def __init__(self, store: SpoolStore) -> None:
        self._store = store
        self.head: ChainHead | None = None
        self.last = {epoch: head.sequence for epoch, head in store.heads().items()}
        self.acked = store.acked()
        self.staged, self.quarantined = store.staged(), store.quarantined()

    @property
    def unnumbered(self) -> bool:
        """True when staged events can join the running epoch's chain now."""
        return self.head is not None and self.staged > 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits file and state together, or neither."""
        before = (self.head, dict(self.last), dict(self.acked), self.staged, self.quarantined)
        try:
            with self._store.transaction():
                yield
        except BaseException:
            self.head, self.last, self.acked, self.staged, self.quarantined = before
            raise

    def move(self, opened: Sequence[tuple[str, bytes]], closed: Sequence[str]) -> None:
        self._store.add_admitted(opened)
        self._store.drop_admitted(closed)

    def append(self, items: Sequence[Item], now_s: float) -> None:
        self.head = self._store.append(self.head, items, int(now_s))
        if self.head is None:
            self.staged += len(items)
        else:
            self.last[self.head.epoch] = self.head.sequence

    def adopt(self, now_s: float) -> None:
        """Moves some staged events into the running epoch's chain."""
        items = self._store.unstage(_UNSTAGED_AT_ONCE)
        self.staged -= len(items)
        self.append(items, now_s)

    def begin(self, epoch: int, now_s: float) -> None:
        """Starts the chain of a new epoch; raises PlaneError `epoch_not_new`."""
        if epoch <= max(self.last, default=0):
            raise PlaneError(
                "epoch_not_new", f"the plane gave epoch {epoch}, which this spool has already passed"
            )
        self.end(now_s)
        self.head, self.acked[epoch] = self._store.begin(epoch), 0
        self.append([item(EPOCH_OPENED, {"epoch": epoch}, now_s)], now_s)

    def end(self, now_s: float) -> None:
        """Closes the running epoch's chain, where an epoch runs."""
        if self.head is not None:
            self.append([item(EPOCH_CLOSED, {"epoch": self.head.epoch}, now_s)], now_s)

    def ack(self, epoch: int, sequence: int, digest: bytes) -> bool:
        if sequence > self.last.get(epoch, 0) or self._store.hash_of(epoch, sequence) != digest:
            return False
        if sequence > self.acked[epoch]:
            self._store.set_acked(epoch, sequence, digest)
            self.acked[epoch] = sequence
        return True

    def rewind(self, epoch: int, expected: int) -> int | None:
        first = self._store.first_sequence(epoch)
        if first is None or not 1 <= expected <= self.last[epoch] + 1:
            return None
        next_sent = max(first, expected)
        digest = self._store.hash_of(epoch, next_sent - 1)
        if digest is None:
            return None
        self._store.set_acked(epoch, next_sent - 1, digest)
        self.acked[epoch] = next_sent - 1
        return next_sent

    def quarantine(self, epoch: int, rejected: Sequence[tuple[int, str]], now_s: float) -> None:
        self._store.quarantine(epoch, rejected, int(now_s))
        self.quarantined = self._store.quarantined()

    def admitted(self) -> tuple[Admission, ...]:
        """Returns the requests that are open on disk."""
        return tuple(Admission(**orjson.loads(body)) for body in self._store.admitted())

    def recover(self, now_s: float, salvaged: Sequence[Item] = (), *, spare: bool = False) -> int:
        """Repairs damaged entries and closes requests that a crash left open; returns the number of closed requests.

        With `spare` the requests stay open.
        """
        left = () if spare else self.admitted()
        with self.transaction():
            for epoch in self.acked:
                self._mend(epoch, now_s)
            self.append([*salvaged, *(crashed(admission) for admission in left)], now_s)
            self._store.drop_admitted([admission.request_id for admission in left])
        return len(left)

    def trim(self, before_s: float) -> None:
        """Removes some delivered events written before `before_s`, and epochs without events."""
        if self._store.trim(int(before_s), limit=2000):
            self._store.forget_epochs()
            self.acked = self._store.acked()
            self.last = {epoch: last for epoch, last in self.last.items() if epoch in self.acked}

    def _mend(self, epoch: int, now_s: float) -> None:
        entries = self._store.unacked_entries(epoch)
        repairs = list(inspect(self._store.acked_hash(epoch), entries, self._store.source, now_s))
        for repair in repairs:
            self._store.repair(repair.entry)
        if lost := [(repair.entry.sequence, "damaged on disk") for repair in repairs if repair.lost]:
            self.quarantine(epoch, lost, now_s)
