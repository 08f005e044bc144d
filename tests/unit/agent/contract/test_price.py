"""Price: whole micro-dollars, rounded once, half to even."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pareta_agent.contract.grant import TokenPrice
from pareta_agent.contract.price import cost_micro_usd, estimate_micro_usd

prices = st.builds(TokenPrice, *[st.integers(0, 10**8)] * 3)
tokens = st.integers(0, 10**6)


@given(prices, tokens, tokens, tokens)
def test_cost_is_the_exact_sum_rounded_half_even(
    price: TokenPrice, fresh: int, cached: int, output: int
) -> None:
    """Python's own rounding of the exact fraction is the oracle."""
    exact = Fraction(
        fresh * price.input_micro_usd_per_mtok
        + cached * price.cached_input_micro_usd_per_mtok
        + output * price.output_micro_usd_per_mtok,
        1_000_000,
    )
    assert cost_micro_usd(price, fresh + cached, cached, output) == round(exact)


def test_half_goes_to_even() -> None:
    """0.5 → 0, 1.5 → 2, 2.5 → 2."""
    price = TokenPrice(500_000, 0, 0)
    assert [cost_micro_usd(price, count, 0, 0) for count in (1, 3, 5)] == [0, 2, 2]


@given(prices, tokens, st.integers(0, 10**6), tokens, tokens)
def test_an_estimate_is_never_below_the_cost(
    price: TokenPrice, whole: int, cached: int, output: int, more: int
) -> None:
    """A reservation covers any cached share and any part of max_tokens."""
    cost = cost_micro_usd(price, whole, min(cached, whole), output)
    assert estimate_micro_usd(price, whole, output + more) >= cost
