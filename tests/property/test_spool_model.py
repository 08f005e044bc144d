"""Spool against a model: for any order of operations and crashes, no record is lost or repeated, and chains are
whole.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pareta_agent.contract.usage_event import FINISHED, finished
from pareta_agent.contract.usage_record import Admission, Outcome, UsageRecord
from pareta_agent.meter.chain import ChainState
from pareta_agent.meter.chain_check import verify
from pareta_agent.meter.commit import Commit
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.meter.sqlite_store import SpoolStore

NOW_S = 1000.0


def admission(request_id: str) -> Admission:
    return Admission(request_id, "org", "key", "ep", "t", "a", "/r", False, 0.0)


class Crash(Exception):
    """The process ends before the commit."""


class SpoolModel(RuleBasedStateMachine):
    """`open` and `ended` are the model's contents of the file: requests without and with a record."""

    @initialize()
    def birth(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.open: set[str] = set()
        self.ended: dict[str, str] = {}
        self.epoch = self.born = 0
        self._open_file()

    def teardown(self) -> None:
        self._close_file()
        shutil.rmtree(self.home)

    def _open_file(self) -> None:
        self.store = SpoolStore(self.home / "spool.db", "n", "s")
        self.reader = SpoolReader(self.home / "spool.db")
        self.journal = ChainState(self.store)
        assert self.journal.recover(NOW_S) == len(self.open)
        self.ended |= dict.fromkeys(self.open, "agent_crash")
        self.open = set()

    def _close_file(self) -> None:
        self.reader.close()
        self.store.close()

    @rule(opening=st.integers(0, 4), closing=st.integers(0, 4), crash=st.booleans())
    def commit(self, opening: int, closing: int, crash: bool) -> None:
        """Commits a group: some requests open, some end (old or new), and perhaps the process ends first."""
        new = [f"r{self.born + n}" for n in range(opening)]
        self.born += opening
        ending = [*sorted(self.open), *new][:closing]
        batch = Commit()
        for request_id in new:
            batch.add(admission(request_id))
        records = [UsageRecord(admission(each), Outcome.COMPLETED, "none") for each in ending]
        batch.records = [(record, None) for record in records]  # type: ignore[misc]
        opened, closed = batch.moves(self.open)
        try:
            with self.journal.transaction():
                self.journal.move(opened, closed)
                self.journal.append([finished(record) for record in records], NOW_S)
                if crash:
                    raise Crash
        except Crash:
            self._close_file()
            self._open_file()
            return
        self.open = (self.open | set(new)) - set(ending)
        self.ended |= dict.fromkeys(ending, "completed")

    @rule()
    def begin_epoch(self) -> None:
        self.epoch += 1
        with self.journal.transaction():
            self.journal.begin(self.epoch, NOW_S)

    @precondition(lambda self: self.journal.unnumbered)
    @rule()
    def adopt(self) -> None:
        with self.journal.transaction():
            self.journal.adopt(NOW_S)

    @rule()
    def restart(self) -> None:
        self._close_file()
        self._open_file()

    @rule(share=st.floats(0, 1), forged=st.booleans())
    def ack(self, share: float, forged: bool) -> None:
        """The plane acknowledges a prefix of the oldest entries, or sends a false hash."""
        if entries := self.reader.unacked(50):
            last = entries[int((len(entries) - 1) * share)]
            digest = bytes(32) if forged else last.hash
            with self.journal.transaction():
                assert self.journal.ack(last.epoch, last.sequence, digest) is not forged
            following = self.reader.unacked(1)
            if not forged and following and following[0].epoch == last.epoch:
                assert following[0].sequence == last.sequence + 1

    @precondition(lambda self: bool(self.journal.last))
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        """A plane that lost entries requests the entries again."""
        epoch = data.draw(st.sampled_from(sorted(self.journal.last)))
        expected = data.draw(st.integers(-1, self.journal.last[epoch] + 3))
        with self.journal.transaction():
            moved = self.journal.rewind(epoch, expected)
        assert moved == (expected if 1 <= expected <= self.journal.last[epoch] + 1 else None)

    @invariant()
    def each_request_is_there_once(self) -> None:
        events = [orjson.loads(entry.body) for entry in self.reader.every()]
        found = [(e["data"]["request_id"], e["data"]["outcome"]) for e in events if e["type"] == FINISHED]
        found += [
            (data["request_id"], data["outcome"]) for data in (orjson.loads(row) for row in self._staged())
        ]
        assert Counter(found) == Counter(self.ended.items())

    @invariant()
    def every_chain_is_whole(self) -> None:
        assert list(verify(self.reader.every())) == []

    @invariant()
    def the_state_is_the_file(self) -> None:
        """The state in memory equals the state of a reopened spool."""
        fresh = ChainState(self.store)
        assert (fresh.last, fresh.acked, fresh.staged) == (
            self.journal.last,
            self.journal.acked,
            self.journal.staged,
        )

    def _staged(self) -> list[bytes]:
        with self.store.transaction():
            items = self.store.unstage(10_000)
            self.store.append(None, items, 0)
        return [item.data for item in items]


TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
