"""The price of a request to the org's credit: what the front asks in tokens, the book keeps in money."""

from __future__ import annotations

from collections.abc import Mapping

from pareta_agent.access.credit import CreditBook, Reservation
from pareta_agent.access.grant import Price
from pareta_agent.access.price import cost_micro_usd, estimate_micro_usd
from pareta_agent.meter.record import Tokens


class Credit:
    """Reservations by request id. An endpoint without a price costs nothing and is never refused."""

    def __init__(self, book: CreditBook) -> None:
        self._book = book
        self._prices: Mapping[str, Price] = {}
        self._held: dict[str, tuple[Reservation, Price]] = {}

    def set_prices(self, prices: Mapping[str, Price]) -> None:
        self._prices = prices

    def reserve(
        self, request_id: str, org: str, endpoint: str, input_tokens: int, output_tokens: int
    ) -> bool:
        """Sets the worst case aside from the lease at hand; False says only that `top_up` must be asked."""
        price = self._prices.get(endpoint)
        if price is None:
            return True
        return self._hold(
            request_id, price, self._book.reserve(org, estimate_micro_usd(price, input_tokens, output_tokens))
        )

    async def top_up(
        self, request_id: str, org: str, endpoint: str, input_tokens: int, output_tokens: int
    ) -> bool:
        """The same, leasing more from the plane; False when the org cannot pay. Raises PlaneError."""
        price = self._prices.get(endpoint)
        if price is None:
            return True
        worst = estimate_micro_usd(price, input_tokens, output_tokens)
        return self._hold(request_id, price, await self._book.top_up(org, worst))

    def release(self, request_id: str, spent: Tokens | None) -> None:
        """Gives a reservation back, less what a completed call used; an unknown id is no error."""
        held = self._held.pop(request_id, None)
        if held is None:
            return
        reservation, price = held
        used = cost_micro_usd(price, spent.input, spent.input_cached, spent.output) if spent else 0
        self._book.release(reservation, used)

    def _hold(self, request_id: str, price: Price, reservation: Reservation | None) -> bool:
        if reservation is None:
            return False
        self._held[request_id] = (reservation, price)
        return True
