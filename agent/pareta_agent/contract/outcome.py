"""Outcome: decides by a table how an admitted request ended; the first row that applies wins.

Pure. `[DONE]` alone proves nothing (an error event may precede), nor does a usage object after an aborted choice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from pareta_agent.contract.usage_record import Outcome, PartialPolicy, UsageSource


class RequestFacts(NamedTuple):
    """The gateway's observations of one admitted request.

    `upstream_status` is None when the engine never answered. `ended` is true for a whole answer: a stream up to
    `[DONE]` (or the route's last event), JSON up to the last byte.

    `choices` counts the requested answers (prompts × n; 0 for routes without choices). `finish_reasons` has one
    reason for each finished choice.

    `late`: the engine's refusal does not prove that no token was generated before.
    """

    upstream_status: int | None
    ended: bool = False
    choices: int = 1
    finish_reasons: tuple[str, ...] = ()
    error_event: bool = False
    client_gone: bool = False
    timed_out: bool = False
    server_fault: bool = False
    late: bool = False

    @property
    def all_finished(self) -> bool:
        return len(self.finish_reasons) >= self.choices

    @property
    def success(self) -> bool:
        return self.upstream_status is not None and 200 <= self.upstream_status < 300

    @property
    def refused(self) -> bool:
        return self.upstream_status is not None and 400 <= self.upstream_status < 500

    @property
    def unworked(self) -> bool:
        """True when the engine refused before spending a token; otherwise the engine may count more than the record."""
        return self.refused and self.ended and not self.late


Row = tuple[str, Callable[[RequestFacts], bool], Outcome]

TABLE: tuple[Row, ...] = (
    ("the deadline passed", lambda f: f.timed_out, Outcome.FAILED_TIMEOUT),
    ("the agent itself failed", lambda f: f.server_fault, Outcome.FAILED_SERVER),
    ("an error event came", lambda f: f.error_event, Outcome.FAILED_ENGINE),
    ("client left unanswered", lambda f: f.upstream_status is None and f.client_gone, Outcome.PARTIAL_CLIENT),
    ("engine never answered", lambda f: f.upstream_status is None, Outcome.FAILED_ENGINE),
    ("engine refused before it worked", lambda f: f.unworked, Outcome.FAILED_SERVER),
    ("engine refused after it may have worked", lambda f: f.refused, Outcome.FAILED_ENGINE),
    ("engine failed", lambda f: not f.success, Outcome.FAILED_ENGINE),
    ("aborted", lambda f: "abort" in f.finish_reasons and not f.client_gone, Outcome.FAILED_SERVER),
    ("aborted after leaving", lambda f: "abort" in f.finish_reasons, Outcome.PARTIAL_CLIENT),
    (
        "client left after every choice had finished",
        lambda f: f.client_gone and f.all_finished and (f.choices > 0 or f.ended),
        Outcome.COMPLETED,
    ),
    ("client left midway", lambda f: f.client_gone, Outcome.PARTIAL_CLIENT),
    ("the answer was cut", lambda f: not f.ended, Outcome.FAILED_ENGINE),
    ("a choice never finished", lambda f: not f.all_finished, Outcome.FAILED_ENGINE),
    ("whole", lambda f: f.ended, Outcome.COMPLETED),
)


@lru_cache(maxsize=1024)  # most requests end in few ways
def outcome(facts: RequestFacts) -> Outcome:
    """Returns the one outcome of a request; total."""
    return next(result for _, applies, result in TABLE if applies(facts))


def debited(outcome: Outcome, source: UsageSource, partial: PartialPolicy) -> bool:
    """Decides whether a record's tokens are debited.

    `partial` is the org's policy for partial answers: `delivered` debits the delivered part. Implausible counts are
    never debited.
    """
    if source not in ("engine_final", "chunk_count"):
        return False
    return outcome is Outcome.COMPLETED or (outcome is Outcome.PARTIAL_CLIENT and partial == "delivered")
