"""Adapter endpoints: maps each endpoint to the shared engine, and records which endpoints sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.engine.adapter_endpoint import AdapterEndpoint
from pareta_agent.engine.fleet_context import FleetContext
from pareta_agent.engine.spec import AdapterEndpointSpec


class AdapterEndpoints:
    """Adapter endpoints by id. Shared engines have a separate life: `host` reads an engine's view."""

    def __init__(self, context: FleetContext) -> None:
        self._context = context
        self._attached: dict[str, AdapterEndpoint] = {}

    def __contains__(self, endpoint: str) -> bool:
        return endpoint in self._attached

    def __getitem__(self, endpoint: str) -> AdapterEndpoint:
        return self._attached[endpoint]

    def on(self, engine: str) -> list[str]:
        """The endpoints that run on a shared engine."""
        return [name for name, attached in self._attached.items() if attached.spec.engine == engine]

    def engine_of(self, endpoint: str) -> str:
        """The engine on which the endpoint runs: the endpoint's own, or a shared engine."""
        attached = self._attached.get(endpoint)
        return attached.spec.engine if attached else endpoint

    async def add(self, spec: AdapterEndpointSpec, host: Callable[[], EndpointView]) -> bool:
        """False where this guest is there already, and unchanged."""
        attached = self._attached.get(spec.endpoint)
        if attached is not None and attached.spec == spec:
            return False
        if attached is not None:
            await self.remove(spec.endpoint)
        self._attached[spec.endpoint] = AdapterEndpoint(spec, host, self._context)
        return True

    async def remove(self, endpoint: str) -> None:
        await self._attached[endpoint].leave()
        del self._attached[endpoint]
        self._context.changed()

    def mark_asleep(self, endpoint: str) -> bool:
        """Puts the adapter endpoint to sleep. True when no endpoint on the engine is awake, and for an unshared
        engine.
        """
        engine = self.engine_of(endpoint)
        if endpoint in self._attached:
            self._attached[endpoint].asleep = True
        return all(each.asleep or each.gave_up for each in map(self.__getitem__, self.on(engine)))

    def mark_awake(self, engine: str) -> None:
        for name in self.on(engine):
            self._attached[name].asleep = False

    def retry(self, endpoint: str) -> None:
        if attached := self._attached.get(endpoint):
            attached.retry()

    def views(self) -> dict[str, EndpointView]:
        return {name: attached.view() for name, attached in self._attached.items()}

    async def close(self) -> None:
        """Ends all tasks and leaves the engines running."""
        await asyncio.gather(*(attached.close() for attached in self._attached.values()))

    async def leave(self) -> None:
        """As `close`, and forgets the endpoints."""
        attached, self._attached = self._attached, {}
        await asyncio.gather(*(attached.close() for attached in attached.values()))
