"""What a settled request takes out of its org's credit."""

from __future__ import annotations

import pytest

from pareta_agent.access.credit import Reservation
from pareta_agent.contract.grant import TokenPrice
from pareta_agent.contract.usage_record import (
    Admission,
    Outcome,
    PartialPolicy,
    Tokens,
    UsageRecord,
    UsageSource,
)
from pareta_agent.gateway.accounting.billing import Charge

PRICE = TokenPrice(1_000_000, 1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("outcome", "source", "partial", "expected"),
    [
        (Outcome.COMPLETED, "engine_final", "none", 12),
        (Outcome.COMPLETED, "suspect", "none", 0),
        (Outcome.PARTIAL_CLIENT, "chunk_count", "none", 0),
        (Outcome.PARTIAL_CLIENT, "chunk_count", "delivered", 12),
        (Outcome.FAILED_ENGINE, "chunk_count", "delivered", 0),
    ],
)
def test_credit_is_kept_for_what_the_plane_will_debit(
    outcome: Outcome, source: UsageSource, partial: PartialPolicy, expected: int
) -> None:
    """No more, or a lease would shrink by money that nobody takes; no less, or it would be spent twice."""
    admission = Admission("r", "org", "key", "ep", "t", "a", "/v1/completions", True, 1.7e9)
    bill = Charge(Reservation("org", 100), PRICE, None, partial)
    assert bill.used_micro_usd(UsageRecord(admission, outcome, source, Tokens(7, 0, 5))) == expected
