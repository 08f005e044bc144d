"""Desired source: reads the desired endpoints from the plane, with prices and idle times."""

from __future__ import annotations

from collections.abc import Mapping

from pareta_agent.contract import wire
from pareta_agent.contract.grant import TokenPrice
from pareta_agent.control.plane_client import PlaneClient
from pareta_agent.control.reconcile import Wanted


class WantedSource:
    """Requests the desired state; remembers the prices and idle times of the last answer."""

    def __init__(self, client: PlaneClient) -> None:
        self._client = client
        self._prices: Mapping[str, TokenPrice] = {}
        self._idle_sleep_s: Mapping[str, float | None] = {}

    async def desired(self, revision: int, wait_s: float) -> tuple[int, list[Wanted]]:
        answer = await self._client.desired(revision, wait_s)
        self._prices = {e.id: TokenPrice(**e.price.model_dump()) for e in answer.endpoints}
        self._idle_sleep_s = {e.id: e.idle_sleep_s for e in answer.endpoints}
        return answer.revision, [_wanted(entry) for entry in answer.endpoints]

    def price_of(self, endpoint: str) -> TokenPrice | None:
        """None for a free or an unknown endpoint."""
        return self._prices.get(endpoint)

    def idle_sleep_s(self, endpoint: str) -> float | None:
        """The endpoint's own idle timeout in seconds, 0 for never; None where unset."""
        return self._idle_sleep_s.get(endpoint)


def _wanted(entry: wire.DesiredEndpoint) -> Wanted:
    return Wanted(
        id=entry.id,
        org=entry.org,
        task=entry.task,
        alias=entry.alias,
        state=entry.state,
        created_s=entry.created_s,
        listed=entry.listed,
        objective=entry.objective,
        replicas=entry.replicas,
        inject_system_prompt=entry.system_prompt == "task",
        attempt=entry.attempt,
    )
