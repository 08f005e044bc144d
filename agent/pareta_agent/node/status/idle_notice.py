"""Idle notice: emits one event while no endpoint is deployed, with the node's address and its plane."""

from __future__ import annotations

from pareta_agent.node.readiness import StartState
from pareta_agent.telemetry.events import Emit, Event
from pareta_agent.telemetry.systemd import Notifier


class IdleNotice:
    def __init__(self, base_url: str, plane: str, emit: Emit, notify: Notifier) -> None:
        self._fields = {"base_url": base_url, "plane": plane}
        self._emit, self._notify, self._reported = emit, notify, False

    def look(self, start: StartState, *, known: bool) -> None:
        """`known`: true once the plane's desired state has arrived."""
        if start is not StartState.IDLE or not known or self._reported:
            return
        self._reported = True
        self._notify("STATUS=waiting for endpoints")
        self._emit(Event("waiting_for_endpoints", fields=self._fields))
