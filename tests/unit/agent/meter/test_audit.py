"""Usage audit: records against an engine's counters, in tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord, UsageSource
from pareta_agent.meter.audit import NOTHING, Account, Audit, Counted, Drift, counters

MOST, SOME = Counted(100, 50), Tokens(10, 0, 5)


def record(source: UsageSource = "engine_final", tokens: Tokens = SOME, name: str = "r") -> UsageRecord:
    admission = Admission(name, "org", "key", "ep", "t", "a", "/v1/completions", False, 1.7e9)
    outcome = Outcome.COMPLETED if source == "engine_final" else Outcome.PARTIAL_CLIENT
    return UsageRecord(admission, outcome, source, tokens)


@pytest.fixture
def account() -> Account:
    """Returns an account whose baseline is 1,000 prompt and 500 generated tokens."""
    found = Account()
    assert found.judge(found.look(), Counted(1000, 500)) is None
    return found


def ended(account: Account, record: UsageRecord, copies: int = 1, refused: bool = False) -> None:
    account.close(account.open(MOST), record, copies, refused)


def drift(account: Account, input_tokens: int, output_tokens: int) -> Drift:
    found = account.judge(account.look(), Counted(1000 + input_tokens, 500 + output_tokens))
    assert found is not None
    return found


def test_records_that_agree_with_the_engine_leave_no_drift(account: Account) -> None:
    """Prompts count once for each answer, and the agent's own requests count too."""
    ended(account, record(), copies=3)
    account.add(Counted(7, 2))
    assert drift(account, 37, 7) == Drift()


@pytest.mark.parametrize(("engine", "beyond"), [((10, 6), (0, 1)), ((9, 5), (-1, 0))])
def test_one_token_is_a_drift_that_nothing_explains(
    account: Account, engine: tuple[int, int], beyond: tuple[int, int]
) -> None:
    """A difference of one token is drift, in either direction."""
    ended(account, record())
    assert drift(account, *engine) == Drift(Counted(*beyond), Counted(*beyond))


def test_a_request_that_was_cut_explains_what_it_could_have_used(account: Account) -> None:
    """A cut request explains any use from the recorded tokens up to the maximum; the drift names the request."""
    ended(account, record("chunk_count", Tokens(output=5), "cut"))
    named = ("cut partial_client chunk_count",)
    assert drift(account, 0, 5) == Drift(NOTHING, NOTHING, False, named)
    assert drift(account, 100, 50) == Drift(Counted(100, 45), NOTHING, False, named)
    assert drift(account, 101, 52).unexplained == Counted(1, 2)
    assert drift(account, 0, 4).unexplained == Counted(0, -1)


def test_suspect_counts_explain_less_than_they_say(account: Account) -> None:
    """A million reported tokens against ten counted are explained by one suspect request."""
    ended(account, record("suspect", Tokens(10, 0, 10**6)))
    found = drift(account, 10, 10)
    assert (found.tokens, found.unexplained) == (Counted(0, 10 - 10**6), NOTHING)


def test_seconds_of_audio_explain_the_tokens_that_nobody_told(account: Account) -> None:
    """A transcription is recorded in seconds, while the engine counts tokens for the same request."""
    ended(account, replace(record(tokens=Tokens()), audio_seconds=3))
    named = ("r completed engine_final",)
    assert drift(account, 90, 40) == Drift(Counted(90, 40), NOTHING, False, named)
    assert drift(account, 101, 40).unexplained == Counted(1, 0)


def test_what_the_engine_refused_explains_nothing(account: Account) -> None:
    ended(account, record("none", Tokens()), refused=True)
    assert drift(account, 1, 0).unexplained == Counted(1, 0)


def test_a_request_that_went_on_elsewhere_explains_what_it_could_have_used(account: Account) -> None:
    """The engine that lost the request may have worked on the request."""
    account.lose(account.open(MOST), "r")
    assert drift(account, 100, 50) == Drift(MOST, NOTHING, False, ("r moved none",))
    assert drift(account, 101, 50).unexplained == Counted(1, 0)


def test_what_runs_is_allowed_for(account: Account) -> None:
    """Running requests explain use, including requests that begin or end between look and counters."""
    running = account.open(MOST)
    look = account.look()
    later = account.open(MOST)
    account.close(running, record(), 1, False)
    account.close(later, record(), 1, False)
    assert account.judge(look, Counted(1000 + 20, 510)) == Drift(Counted(20, 10), NOTHING, True, ())
    assert drift(account, 20, 10) == Drift()


def test_an_engine_that_was_taken_over_counts_from_the_first_look() -> None:
    """Requests across the first reading explain use; earlier requests do not count."""
    account = Account()
    ended(account, record())
    straddling = account.open(MOST)
    assert account.judge(account.look(), Counted(12345, 678)) is None
    account.close(straddling, record(), 1, False)
    found = account.judge(account.look(), Counted(12347, 680))
    assert found is not None
    assert found.unexplained == NOTHING
    ended(account, record())
    found = account.judge(account.look(), Counted(12347 + 10, 680 + 5))
    assert found is not None
    assert found.unexplained == NOTHING


def test_accounts_go_with_their_engines() -> None:
    """An account is dropped with the engine, but not before the last request ends."""
    audit = Audit()
    open_entry = audit.of("ep/0", 1).open(MOST)
    audit.of("ep/0", 2)
    audit.keep([("ep/0", 2)])
    assert audit.of("ep/0", 1) is open_entry.account
    open_entry.account.close(open_entry, record(), 1, False)
    audit.keep([("ep/0", 2)])
    assert audit.of("ep/0", 1) is not open_entry.account


def test_counters_are_summed_over_ranks() -> None:
    """Counters are read in vLLM's format; text without counters gives None."""
    text = (
        '# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+03\n'
        'vllm:prompt_tokens_total{engine="1",model_name="m"} 7.0\nvllm:generation_tokens_total{engine="0"} 3.0\n'
    )
    assert counters(text) == Counted(1507, 3)
    assert counters("vllm:num_requests_running 1.0\n") is None
