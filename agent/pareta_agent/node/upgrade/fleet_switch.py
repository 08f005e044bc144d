"""Fleet switch: shows the gateway a fleet while the engines change owner.

An engine of the previous fleet serves until the engine is live under its new owner, or is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pareta_agent.contract.fleet_view import EndpointView, FleetView


def merged(before: FleetView, now: FleetView, kept: frozenset[str] | None) -> FleetView:
    """The fleet to serve from: live endpoints of `now`, and every other endpoint with its previous replicas. `kept`
    limits the previous replicas by name; None keeps all. Pure.
    """
    shown = {
        e.id: _served(e, now.endpoints.get(e.id), kept)
        for e in before.endpoints.values()
        if e.id in now.endpoints or not now.complete
    }
    return FleetView({**now.endpoints, **shown}, before.complete or now.complete)


def _served(before: EndpointView, now: EndpointView | None, kept: frozenset[str] | None) -> EndpointView:
    if now is not None and now.status in ("live", "stopped"):
        return now
    replicas = tuple(each for each in before.replicas if kept is None or each.name in kept)
    if replicas or now is None:
        return replace(before, replicas=replicas)
    return now


class FleetSwitch:
    """`here` is this agent's own fleet."""

    def __init__(self, here: Callable[[], FleetView]) -> None:
        self._now = self._here = here
        self._kept: Callable[[], frozenset[str] | None] = lambda: None
        self._before: FleetView | None = None

    def __call__(self) -> FleetView:
        if self._before is None:
            return self._now()
        now = self._now()
        found = merged(self._before, now, self._kept())
        if now.complete and found == now:
            self._before = None  # every kept replica is live
        return found

    def switch(self, now: Callable[[], FleetView] | None, kept: Callable[[], frozenset[str] | None]) -> None:
        """Shows `now` (None: this agent's own fleet) from here on, merged with the fleet that was shown until here."""
        self._before = self()
        self._now, self._kept = now or self._here, kept
