"""Start progress: combines the bus's phases with the fleet's expected duration into a line per starting endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pareta_agent.clock import Clock
from pareta_agent.contract import wire
from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.telemetry.events import Event, Phase

_ALMOST = 99


@dataclass(slots=True)
class _Start:
    begun_s: float
    phase: str = "resolve"
    detail: str = ""
    percent: int = 0


class ProgressBook:
    """Listens to the bus; `of` returns a starting endpoint's progress, which never decreases."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._starts: dict[str, _Start] = {}

    def heard(self, event: Phase | Event) -> None:
        """A bus listener."""
        if not isinstance(event, Phase) or not event.endpoint:
            return
        start = self._starts.setdefault(event.endpoint, _Start(self._clock.mono_s()))
        if event.state in ("started", "progress"):
            start.phase = event.phase
            start.detail = _amount(event)

    def of(self, view: EndpointView) -> wire.Progress | None:
        """None for an endpoint that is not starting; the next start begins at zero."""
        if view.status != "deploying":
            self._starts.pop(view.runs_on, None)
            return None
        start = self._starts.setdefault(view.runs_on, _Start(self._clock.mono_s()))
        spent_s, left_s = self._clock.mono_s() - start.begun_s, view.retry_after_s
        if left_s is not None:
            start.percent = max(start.percent, min(_ALMOST, int(100 * spent_s / (spent_s + left_s))))
        return wire.Progress(
            phase=start.phase, percent=start.percent, eta_s=left_s, message=_sentence(start, left_s)
        )

    def all(self, endpoints: Mapping[str, EndpointView]) -> dict[str, wire.Progress]:
        """The progress of starting endpoints; forgets unknown endpoints."""
        for gone in self._starts.keys() - {view.runs_on for view in endpoints.values()}:
            del self._starts[gone]
        reported = ((view.id, self.of(view)) for view in endpoints.values())
        return {endpoint: line for endpoint, line in reported if line is not None}


def _amount(event: Phase) -> str:
    return f" {100 * (event.done or 0) // event.total} %" if event.total else ""


def _sentence(start: _Start, left_s: int | None) -> str:
    wait = f", about {left_s} s left" if left_s is not None else ""
    return f"{start.phase}{start.detail} ({start.percent} %{wait})"
