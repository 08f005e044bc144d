"""Rate limit: a minute's burst, then a steady rate; unused tokens return."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pareta_agent.access.limits import Excess, Limiter, Permit
from pareta_agent.contract.grant import GrantLimits


def test_requests_burst_and_then_drip(clock: Any) -> None:
    """A minute's worth is admitted at once, then requests at the steady rate."""
    limiter, limits = Limiter(clock), GrantLimits(requests_per_minute=10)
    assert all(isinstance(limiter.enter("k", limits, 0), Permit) for _ in range(10))
    assert limiter.enter("k", limits, 0) == Excess("requests", 10, 6.0)
    clock.now_s += 6.0
    assert isinstance(limiter.enter("k", limits, 0), Permit)
    assert isinstance(limiter.enter("other", limits, 0), Permit)


def test_tokens_not_used_come_back(clock: Any) -> None:
    """Entry takes the worst case; after the end only the use stays taken."""
    limiter, limits = Limiter(clock), GrantLimits(tokens_per_minute=100)
    first = limiter.enter("k", limits, 80)
    assert limiter.enter("k", limits, 40) == Excess("tokens", 100, 12.0)
    assert isinstance(first, Permit)
    limiter.leave(first, 10)
    limiter.leave(first, 0)
    assert isinstance(limiter.enter("k", limits, 90), Permit)
    assert limiter.enter("k", limits, 1) == Excess("tokens", 100, 0.6)


def test_a_request_beyond_the_limit_itself_need_not_wait(clock: Any) -> None:
    """No wait makes 101 tokens fit into 100."""
    assert Limiter(clock).enter("k", GrantLimits(tokens_per_minute=100), 101) == Excess("tokens", 100, None)


def test_concurrency_is_freed_by_leaving(clock: Any) -> None:
    """Two at once; the third enters when another has left."""
    limiter, limits = Limiter(clock), GrantLimits(concurrency=2)
    first, _ = limiter.enter("k", limits, 0), limiter.enter("k", limits, 0)
    assert limiter.enter("k", limits, 0) == Excess("concurrency", 2, 1.0)
    assert isinstance(first, Permit)
    limiter.leave(first, 0)
    assert isinstance(limiter.enter("k", limits, 0), Permit)


def test_an_excess_takes_nothing(clock: Any) -> None:
    """A request refused for tokens does not use up a request."""
    limiter, limits = Limiter(clock), GrantLimits(requests_per_minute=1, tokens_per_minute=10)
    assert isinstance(limiter.enter("k", limits, 11), Excess)
    assert isinstance(limiter.enter("k", limits, 10), Permit)


def test_headers_tell_what_is_left(clock: Any) -> None:
    """Headers have the names that clients know; none for a key without limits."""
    limiter, limits = Limiter(clock), GrantLimits(requests_per_minute=10)
    limiter.enter("k", limits, 0)
    assert limiter.headers("k", limits) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "6.000s",
    }
    assert limiter.headers("k", GrantLimits()) == {}


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50), st.floats(0, 1)), max_size=60))
def test_no_minute_sees_more_than_twice_the_limit(steps: list[tuple[float, int, float]]) -> None:
    """Any minute admits at most a full bucket and a minute's filling."""

    class Clock:
        now_s = 0.0

        def mono_s(self) -> float:
            return self.now_s

    clock = Clock()
    limiter, limits = Limiter(clock), GrantLimits(tokens_per_minute=100)  # type: ignore[arg-type]
    used: list[tuple[float, int]] = []
    for pause_s, tokens, share in steps:
        clock.now_s += pause_s
        permit = limiter.enter("k", limits, tokens)
        if isinstance(permit, Permit):
            limiter.leave(permit, int(tokens * share))
            used.append((clock.now_s, int(tokens * share)))
    for start_s, _ in used:
        assert sum(tokens for at_s, tokens in used if start_s <= at_s <= start_s + 60.0) <= 200
