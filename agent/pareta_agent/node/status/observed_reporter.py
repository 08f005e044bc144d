"""Observed reporter: sends the plane endpoint states with reasons, plan summaries and start progress."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from pareta_agent.clock import Clock
from pareta_agent.contract import wire
from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.control.plane_client import PlaneClient
from pareta_agent.engine.fleet import Fleet
from pareta_agent.errors import PlaneError
from pareta_agent.node.status.start_progress import ProgressBook

SETTLE_S = 0.2
LOOK_EVERY_S = 1.0
RETRY_S = 5.0


class Observer:
    """Level-based: each message is the whole state, so a lost message costs delay only."""

    def __init__(
        self,
        client: PlaneClient,
        fleet: Fleet,
        plans: Callable[[], Mapping[str, dict[str, Any]]],
        progress: ProgressBook,
        place: Callable[[], tuple[int, int]],
        clock: Clock,
    ) -> None:
        """`place` returns (epoch, desired revision); epoch 0 means that the node is not registered yet."""
        self._client, self._fleet, self._plans = client, fleet, plans
        self._progress, self._place, self._clock = progress, place, clock

    async def run(self) -> None:
        """Runs until cancelled: looks after each change of the fleet and every second, since phases and revisions also
        change.
        """
        revision = 0
        reported: wire.Observed | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    revision = await self._fleet.changed(revision)
            await self._clock.sleep(SETTLE_S)
            body = self._body()
            if body is None or body == reported:
                continue
            try:
                await self._client.observed(body)
                reported = body
            except PlaneError:
                await self._clock.sleep(RETRY_S)

    def _body(self) -> wire.Observed | None:
        epoch, desired = self._place()
        if not epoch:
            return None
        view = self._fleet.view()
        return observed(view, self._plans(), self._progress.all(view.endpoints), epoch, desired)


def observed(
    view: FleetView,
    plans: Mapping[str, dict[str, Any]],
    progress: Mapping[str, wire.Progress],
    epoch: int,
    desired_revision: int,
) -> wire.Observed:
    """The observed state on the wire: reasons and layouts, never a weights id or a path."""
    endpoints = [
        wire.ObservedEndpoint(
            id=e.id,
            status=e.status,
            reason=e.reason,
            plan=plans.get(e.runs_on, {}),
            progress=progress.get(e.id),
        )
        for e in view.endpoints.values()
    ]
    return wire.Observed(epoch=epoch, desired_revision=desired_revision, endpoints=endpoints)
