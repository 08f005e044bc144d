"""Startup: follows the fleet, sets readiness, and detects that every endpoint is live or has failed."""

from __future__ import annotations

import contextlib
import os
import time
from asyncio import timeout
from collections.abc import Awaitable, Callable

from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.errors import AgentError, EngineError
from pareta_agent.node.readiness import PlaneAddress, Ready, StartState, judge, not_ready
from pareta_agent.node.status.idle_notice import IdleNotice
from pareta_agent.node.status.spool_alarm import SpoolAlarm
from pareta_agent.node.wiring import Components
from pareta_agent.telemetry.events import Bus, Event
from pareta_agent.telemetry.systemd import Notifier

WATCH_S = 1.0


class Startup:
    """`on_ready` is called once, at most. `given_up` is the reason of an engine's failed start, for the exit code."""

    def __init__(
        self,
        components: Components,
        address: PlaneAddress,
        base_url: str,
        begun_s: float,
        bus: Bus,
        notify: Notifier,
        on_ready: Callable[[Ready], Awaitable[None]],
    ) -> None:
        self._components, self._address, self._base_url = components, address, base_url
        self._begun_s, self._bus, self._notify, self._on_ready = begun_s, bus, notify, on_ready
        self.was_ready = False
        self.given_up: AgentError | None = None
        bus.listen(self._hold_failure)

    async def run(self, advance: Callable[[FleetView], Awaitable[None]]) -> None:
        """Returns only where, beside an embedded plane, every start has failed. `advance` is awaited at each look."""
        it = self._components
        revision, alarm = 0, SpoolAlarm(self._bus)
        notice = IdleNotice(self._base_url, self._address.url, self._bus, self._notify)
        while True:
            with contextlib.suppress(TimeoutError):
                async with timeout(WATCH_S):
                    revision = await it.fleet.changed(revision)
            wanted, view = it.controller.wanted.values(), it.fleet.view()
            lease, metering = it.heart.may_admit(), it.spool.can_admit()
            alarm.look(it.spool.stats(), metering)
            it.front.set_ready(*not_ready(wanted, view, lease=lease, metering=metering))
            start = judge(wanted, view)
            await advance(view)
            notice.look(start, known=it.report.up_to_date())
            if start is StartState.LIVE and not self.was_ready:
                await self._report_ready()
            elif start is StartState.FAILED and not self.was_ready and self._address.embedded:
                self.given_up = next(iter(it.controller.failures.values()), self.given_up)
                return

    async def _report_ready(self) -> None:
        self.was_ready = True
        self._notify("STATUS=live")
        urls = self._base_url, f"{self._base_url.removesuffix('/v1')}/metrics"
        endpoints = tuple(self._components.fleet.view().endpoints.values())
        seconds, workarounds = time.monotonic() - self._begun_s, self._components.report.workarounds()
        await self._on_ready(Ready(*urls, endpoints, os.getpid(), seconds, workarounds))

    def _hold_failure(self, event: object) -> None:
        if isinstance(event, Event) and event.name == "engine_given_up":
            fields = event.fields
            error = AgentError.of_exit(int(fields.get("exit_code", EngineError.exit_code)))
            remedy = str(fields.get("remedy") or "read the engine's log, named above")
            self.given_up = error(str(fields["code"]), f"{fields['endpoint']}: {fields['reason']}", remedy)
