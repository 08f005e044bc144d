"""The fleet as the front sees it, also while its engines change hands.

An engine that this agent served from goes on serving while another agent (or this one, taking over again) still proves
it: until it is live there, or is told not to be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pareta_agent.engine.view import EndpointView, FleetView


def merged(before: FleetView, now: FleetView, kept: frozenset[str] | None) -> FleetView:
    """What to serve from: an endpoint that is live now, else what it had before of replicas that are kept (by name;
    None: all). Pure."""
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


class Sight:
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
            self._before = None  # everything has arrived
        return found

    def changes_hands(
        self, now: Callable[[], FleetView] | None, kept: Callable[[], frozenset[str] | None]
    ) -> None:
        """From here on `now` (None: this agent's own fleet again) tells, beside what was served until here."""
        self._before = self()
        self._now, self._kept = now or self._here, kept
