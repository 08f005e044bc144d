"""Price: calculates the cost of tokens in integer micro-USD. Pure; the node reserves and the plane debits by this
price.
"""

from __future__ import annotations

from pareta_agent.contract.grant import TokenPrice

_MTOK = 1_000_000


def cost_micro_usd(price: TokenPrice, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
    """Returns the price of one request, rounded half to even once, on the sum; `input_tokens` includes the cached."""
    total = (
        (input_tokens - cached_tokens) * price.input_micro_usd_per_mtok
        + cached_tokens * price.cached_input_micro_usd_per_mtok
        + output_tokens * price.output_micro_usd_per_mtok
    )
    whole, rest = divmod(total, _MTOK)
    return whole + (rest * 2 > _MTOK or (rest * 2 == _MTOK and whole % 2 == 1))


def estimate_micro_usd(price: TokenPrice, prompt_tokens: int, max_tokens: int) -> int:
    """Returns an upper bound of the price before the request: no cached tokens, all of `max_tokens`, rounded up."""
    dearest = max(price.input_micro_usd_per_mtok, price.cached_input_micro_usd_per_mtok)
    return -(-(prompt_tokens * dearest + max_tokens * price.output_micro_usd_per_mtok) // _MTOK)
