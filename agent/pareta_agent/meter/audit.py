"""Usage audit: compares usage records with the engines' own token counters.

An account covers one life of an engine. Its counters' growth since the first reading is compared with the sum of its
requests' records.

The use of a request is uncertain when the request was cut, still runs, or has suspect counts. An uncertain use is a
range, and only tokens outside all ranges are unexplained. Pure: the caller reads the counters.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pareta_agent.contract.usage_record import UsageRecord
from pareta_agent.value import value

_COUNTER: Final = re.compile(
    r"^vllm:(prompt|generation)_tokens_total(?:\{[^}]*\})? ([0-9.eE+]+)$", re.MULTILINE
)
_NAMED_REQUESTS: Final = 20


class Counted(NamedTuple):
    """Prompt tokens (once for each answer generated from the prompt) and generated tokens."""

    input: int = 0
    output: int = 0

    def plus(self, other: Counted) -> Counted:
        return Counted(self.input + other.input, self.output + other.output)

    def less(self, other: Counted) -> Counted:
        return Counted(self.input - other.input, self.output - other.output)

    def outside(self, low: Counted, high: Counted) -> Counted:
        """Returns the distance of each count below `low` (negative) or above `high`; 0 between."""
        return Counted(*(min(0, v - a) + max(0, v - b) for v, a, b in zip(self, low, high, strict=True)))


NOTHING: Final = Counted()


def counters(metrics: str) -> Counted | None:
    """Returns an engine's token counters, summed over data-parallel ranks; None where the engine exports none."""
    found: dict[str, float] = {}
    for name, count in _COUNTER.findall(metrics):
        found[name] = found.get(name, 0.0) + float(count)
    return Counted(int(found["prompt"]), int(found["generation"])) if len(found) == 2 else None


@value
class AuditEntry:
    """A request that was sent to an engine; `most` bounds the tokens that the request can use there."""

    account: Account
    number: int
    most: Counted


@dataclass(frozen=True, slots=True)
class Drift:
    """Tokens that an engine counted beyond the usage records.

    `unexplained` is the part that no request with an uncertain end accounts for. `requests` names the latest such
    requests, each as `<id> <outcome> <usage source>`. `busy`: some requests still run.
    """

    tokens: Counted = NOTHING
    unexplained: Counted = NOTHING
    busy: bool = False
    requests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """Usage on record before the engine's counters are read."""

    recorded: Counted
    low: Counted
    high: Counted
    closed: Counted
    ended: int


@dataclass(eq=False, slots=True)
class Account:
    """The account of one engine, from start to end; `opened` and `closed` sum the most that requests could use."""

    baseline: Counted | None = None
    recorded: Counted = NOTHING
    low: Counted = NOTHING
    high: Counted = NOTHING
    opened: Counted = NOTHING
    closed: Counted = NOTHING
    number: int = 0
    ended: int = 0
    straddling: int | None = None  # requests up to this number began before the baseline
    uncertain: deque[str] = field(default_factory=lambda: deque(maxlen=_NAMED_REQUESTS))

    def open(self, most: Counted) -> AuditEntry:
        self.number += 1
        self.opened = self.opened.plus(most)
        return AuditEntry(self, self.number, most)

    def close(self, entry: AuditEntry, record: UsageRecord, prompt_copies: int, refused: bool) -> None:
        self.ended += 1
        self.closed = self.closed.plus(entry.most)
        if self.straddling is None or entry.number <= self.straddling:
            self.high = self.high.plus(entry.most)
            return
        tokens = Counted(record.tokens.input * prompt_copies, record.tokens.output)
        self.recorded = self.recorded.plus(tokens)
        reported = (
            record.usage_source == "engine_final" and not record.audio_seconds
        )  # audio seconds do not measure tokens
        if reported or refused:
            return
        admission = record.admission
        self.uncertain.append(f"{admission.request_id} {record.outcome} {record.usage_source}")
        self.high = self.high.plus(Counted(*(max(0, m - t) for m, t in zip(entry.most, tokens, strict=True))))
        if record.usage_source == "suspect":
            self.low = self.low.less(tokens)

    def lose(self, entry: AuditEntry, request_id: str) -> None:
        """Removes a request that another engine takes over; the tokens spent on this engine stay unknown."""
        self.ended += 1
        self.closed = self.closed.plus(entry.most)
        self.high = self.high.plus(entry.most)
        self.uncertain.append(f"{request_id} moved none")

    def add(self, tokens: Counted) -> None:
        """Adds the tokens of requests that the agent itself sent to the engine."""
        self.recorded = self.recorded.plus(tokens)

    def look(self) -> Look:
        """Returns the usage on record; call before the counters are read, so that the engine has counted all of the
        usage.
        """
        if self.baseline is None:
            self.recorded = self.low = self.high = NOTHING
        return Look(self.recorded, self.low, self.high, self.closed, self.ended)

    def judge(self, look: Look, engine: Counted) -> Drift | None:
        """Compares the engine's counters with `look`; returns None at the first reading, which is the baseline."""
        if self.baseline is None:
            self.baseline, self.straddling = engine, self.number
            return None
        tokens = engine.less(self.baseline).less(look.recorded)
        high = look.high.plus(self.opened).less(look.closed)
        unexplained = tokens.outside(look.low, high)
        return Drift(tokens, unexplained, self.number > look.ended, tuple(self.uncertain))


class Audit:
    """The accounts of all engines, by replica and generation."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, int], Account] = {}

    def of(self, replica: str, generation: int) -> Account:
        key = (replica, generation)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account()
        return account

    def open(self, replica: str, generation: int, most: Counted) -> AuditEntry:
        """Opens an entry for a request that is sent to that engine."""
        return self.of(replica, generation).open(most)

    def keep(self, living: Collection[tuple[str, int]]) -> None:
        """Drops the account of each engine that is not in `living` and has no open request."""
        for key in self._accounts.keys() - set(living):
            if self._accounts[key].number == self._accounts[key].ended:
                del self._accounts[key]
