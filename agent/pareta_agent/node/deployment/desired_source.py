"""What the plane wants of this node, in the node's own values, and what it charges."""

from __future__ import annotations

from collections.abc import Mapping

from pareta_agent.contract import wire
from pareta_agent.contract.grant import TokenPrice
from pareta_agent.control.plane_client import PlaneClient
from pareta_agent.control.reconcile import Wanted


class WantedSource:
    """Asks the plane; remembers the prices and idle times that came with the last answer."""

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
        """None where nothing is charged, or the endpoint is unknown."""
        return self._prices.get(endpoint)

    def idle_sleep_s(self, endpoint: str) -> float | None:
        """How long it idles before it may sleep, 0 for never; None where its owner did not say."""
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
