"""Outcome table: a case for each row, and every row is reachable."""

from __future__ import annotations

import itertools

import pytest

from pareta_agent.contract.outcome import TABLE, RequestFacts, debited, outcome
from pareta_agent.contract.usage_record import Outcome, UsageSource

WHOLE = {"upstream_status": 200, "ended": True, "finish_reasons": ("stop",)}

CASES = [
    ("whole answer", RequestFacts(**WHOLE), Outcome.COMPLETED),
    ("no choices to finish", RequestFacts(200, ended=True, choices=0), Outcome.COMPLETED),
    (
        "every one of n choices",
        RequestFacts(200, ended=True, choices=2, finish_reasons=("stop", "length")),
        Outcome.COMPLETED,
    ),
    ("usage missing", RequestFacts(200, ended=True, finish_reasons=("stop",)), Outcome.COMPLETED),
    ("deadline", RequestFacts(**WHOLE, timed_out=True), Outcome.FAILED_TIMEOUT),
    ("agent's fault", RequestFacts(**WHOLE, server_fault=True), Outcome.FAILED_SERVER),
    ("error event then [DONE]", RequestFacts(**WHOLE, error_event=True), Outcome.FAILED_ENGINE),
    (
        "error event after the client left",
        RequestFacts(**WHOLE, error_event=True, client_gone=True),
        Outcome.FAILED_ENGINE,
    ),
    ("client left before an answer", RequestFacts(None, client_gone=True), Outcome.PARTIAL_CLIENT),
    ("engine gone before an answer", RequestFacts(None), Outcome.FAILED_ENGINE),
    ("engine refused", RequestFacts(400, ended=True, choices=0), Outcome.FAILED_SERVER),
    ("engine refused late", RequestFacts(400, ended=True, late=True), Outcome.FAILED_ENGINE),
    ("engine dead", RequestFacts(500, ended=True, choices=0), Outcome.FAILED_ENGINE),
    ("engine moved", RequestFacts(302, ended=True, choices=0), Outcome.FAILED_ENGINE),
    ("abort with usage", RequestFacts(**{**WHOLE, "finish_reasons": ("abort",)}), Outcome.FAILED_SERVER),
    (
        "one of two aborted",
        RequestFacts(200, ended=True, choices=2, finish_reasons=("stop", "abort")),
        Outcome.FAILED_SERVER,
    ),
    (
        "aborted since the client left",
        RequestFacts(200, finish_reasons=("abort",), client_gone=True),
        Outcome.PARTIAL_CLIENT,
    ),
    (
        "client left after the last choice",
        RequestFacts(200, finish_reasons=("stop",), client_gone=True),
        Outcome.COMPLETED,
    ),
    (
        "client left after one of two",
        RequestFacts(200, choices=2, finish_reasons=("stop",), client_gone=True),
        Outcome.PARTIAL_CLIENT,
    ),
    ("client left midway", RequestFacts(200, client_gone=True), Outcome.PARTIAL_CLIENT),
    ("client left an embedding", RequestFacts(200, choices=0, client_gone=True), Outcome.PARTIAL_CLIENT),
    ("cut after a finish", RequestFacts(200, finish_reasons=("stop",)), Outcome.FAILED_ENGINE),
    ("cut midway", RequestFacts(200), Outcome.FAILED_ENGINE),
    ("[DONE] without a finish", RequestFacts(200, ended=True), Outcome.FAILED_ENGINE),
]


@pytest.mark.parametrize(("facts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_outcome(facts: RequestFacts, expected: Outcome) -> None:
    """Facts decide the outcome."""
    assert outcome(facts) == expected


@pytest.mark.parametrize(("facts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_only_an_early_refusal_costs_the_engine_nothing(facts: RequestFacts, expected: Outcome) -> None:
    """Any other end may have cost tokens beyond the record."""
    assert facts.unworked == (facts.upstream_status == 400 and not facts.late)
    assert expected is Outcome.FAILED_SERVER or not facts.unworked


def test_every_row_decides_some_case() -> None:
    """A row without a case would be dead or untested."""
    deciding = {next(name for name, applies, _ in TABLE if applies(facts)) for _, facts, _ in CASES}
    assert deciding == {name for name, _, _ in TABLE}


def test_the_table_is_total() -> None:
    """Any combination of facts has an outcome."""
    flags = list(itertools.product([False, True], repeat=5))
    for status, choices, reasons in itertools.product(
        [None, 200, 404, 503], [0, 1, 2], [(), ("stop",), ("abort",)]
    ):
        for ended, error, gone, late, fault in flags:
            assert outcome(RequestFacts(status, ended, choices, reasons, error, gone, late, fault)) in Outcome


@pytest.mark.parametrize("ended", Outcome)
@pytest.mark.parametrize("source", ["engine_final", "chunk_count", "none", "suspect"])
def test_what_is_debited(ended: Outcome, source: UsageSource) -> None:
    """Completed calls are debited; partial answers under `delivered`; implausible counts never."""
    counted = source in ("engine_final", "chunk_count")
    assert debited(ended, source, "none") == (counted and ended == "completed")
    assert debited(ended, source, "delivered") == (counted and ended in ("completed", "partial_client"))
