"""The endpoints that share engines: which one runs on which engine, and which ones were put to sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pareta_agent.engine.guest import Guest
from pareta_agent.engine.spec import GuestSpec
from pareta_agent.engine.surroundings import FleetContext
from pareta_agent.engine.view import EndpointView


class Guests:
    """Guests by endpoint id. The shared engines have their own life: `host` reads one's view."""

    def __init__(self, context: FleetContext) -> None:
        self._context = context
        self._guests: dict[str, Guest] = {}

    def __contains__(self, endpoint: str) -> bool:
        return endpoint in self._guests

    def __getitem__(self, endpoint: str) -> Guest:
        return self._guests[endpoint]

    def on(self, engine: str) -> list[str]:
        """The endpoints that run on a shared engine."""
        return [name for name, guest in self._guests.items() if guest.spec.engine == engine]

    def engine_of(self, endpoint: str) -> str:
        """The engine that the endpoint runs on: its own, or a shared one."""
        guest = self._guests.get(endpoint)
        return guest.spec.engine if guest else endpoint

    async def add(self, spec: GuestSpec, host: Callable[[], EndpointView]) -> bool:
        """False where this guest is there already, and unchanged."""
        guest = self._guests.get(spec.endpoint)
        if guest is not None and guest.spec == spec:
            return False
        if guest is not None:
            await self.remove(spec.endpoint)
        self._guests[spec.endpoint] = Guest(spec, host, self._context)
        return True

    async def remove(self, endpoint: str) -> None:
        await self._guests[endpoint].leave()
        del self._guests[endpoint]
        self._context.changed()

    def lie_down(self, endpoint: str) -> bool:
        """Puts the guest to sleep; whether nobody on its engine is awake then. True for an engine of its own."""
        engine = self.engine_of(endpoint)
        if endpoint in self._guests:
            self._guests[endpoint].asleep = True
        return all(each.asleep or each.gave_up for each in map(self.__getitem__, self.on(engine)))

    def rouse(self, engine: str) -> None:
        for name in self.on(engine):
            self._guests[name].asleep = False

    def retry(self, endpoint: str) -> None:
        if guest := self._guests.get(endpoint):
            guest.retry()

    def views(self) -> dict[str, EndpointView]:
        return {name: guest.view() for name, guest in self._guests.items()}

    async def close(self) -> None:
        """Ends their tasks and leaves the engines as they are."""
        await asyncio.gather(*(guest.close() for guest in self._guests.values()))

    async def leave(self) -> None:
        """As `close`, and forgets them."""
        guests, self._guests = self._guests, {}
        await asyncio.gather(*(guest.close() for guest in guests.values()))
