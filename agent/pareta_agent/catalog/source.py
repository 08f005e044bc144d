"""Catalog source: provides the node's catalog, and resolves a task and an alias to a model.

A published catalog is followed; a directory is read once. The effect of a change on running engines is decided
elsewhere.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from pareta_agent.catalog.location import CatalogLocation
from pareta_agent.clock import Clock
from pareta_agent.errors import RegistryError
from pareta_agent.telemetry.events import Emit, Event
from pareta_registry.catalog import Catalog
from pareta_registry.channels.follow import LOOK_S, Followed
from pareta_registry.errors import RegistryFailure
from pareta_registry.resolve import Resolution, Unresolved, resolve

FIRST_LOOK_S = 5.0


class CatalogSource:
    """The catalog of this node. `serial` and `age_s` are None unless a channel is followed. `refusal`: the reason for
    which the channel's latest answer was refused.
    """

    def __init__(self, location: CatalogLocation, clock: Clock, emit: Emit) -> None:
        self._location, self._clock, self._emit = location, clock, emit
        self._follower = location.follower(clock) if location.is_published else None
        self._found: Followed | None = None
        self._fixed: Catalog | None = None

    async def open(self) -> None:
        """Reads the first catalog; a stored copy suffices. Raises RegistryError without any catalog, with every
        problem located.
        """
        if self._follower is None:
            self._fixed = await asyncio.to_thread(self._location.read)
            return
        here = await asyncio.to_thread(self._location.cache.serial)
        await self._look(FIRST_LOOK_S if here else LOOK_S)

    @property
    def catalog(self) -> Catalog:
        """The catalog of the last look. Requires `open`."""
        catalog = self._found.catalog if self._found else self._fixed
        if catalog is None:
            raise RuntimeError("the catalog source was not opened")
        return catalog

    @property
    def serial(self) -> int | None:
        return self._found.serial if self._found else None

    @property
    def age_s(self) -> float | None:
        """Seconds since the channel last confirmed this catalog."""
        return self._found.age_s(self._clock.wall_s()) if self._found else None

    @property
    def refusal(self) -> RegistryFailure | None:
        return self._found.refusal if self._found else None

    def view(self) -> dict[str, Any]:
        """Plain values for `status`."""
        return {
            "source": self._location.where or "built in",
            "channel": self._location.channel if self._follower else None,
            "serial": self.serial,
            "digest": self.catalog.digest,
            "age_s": None if self.age_s is None else round(self.age_s, 1),
            "trouble": str(self.refusal).splitlines()[0] if self.refusal else None,
        }

    async def run(self, changed: Callable[[Catalog], Awaitable[None]]) -> None:
        """Runs until cancelled: looks about every `poll_s` seconds, and passes each changed catalog to `changed`."""
        if self._follower is None:
            await asyncio.Event().wait()
        while True:
            await self._clock.sleep(self._location.poll_s * random.uniform(0.8, 1.2))
            before = self.catalog
            await self._look(LOOK_S)
            if self.catalog.digest != before.digest:
                self._emit(Event("catalog_changed", fields={"serial": self.serial}))
                await changed(self.catalog)

    async def close(self) -> None:
        if self._follower is not None:
            await self._follower.close()

    async def _look(self, within_s: float) -> None:
        before = self.refusal
        try:
            self._found = await self._follower.refresh(within_s) if self._follower else None
        except RegistryFailure as error:
            if self._found is None:
                raise RegistryError(error.code, error.message, error.remedy) from None
            self._found = Followed(self._found.catalog, self._found.serial, self._found.confirmed_s, error)
        refusal = self.refusal
        if refusal is not None and (before is None or before.code != refusal.code):
            fields = {"code": refusal.code, "reason": refusal.message, "remedy": refusal.remedy}
            self._emit(Event("catalog_refused", "warning", fields))


async def read_catalog(location: CatalogLocation, clock: Clock) -> Catalog:
    """The present catalog, for a command that looks once. Raises RegistryError with every problem located."""
    catalog_source = CatalogSource(location, clock, lambda _event: None)
    try:
        await catalog_source.open()
        return catalog_source.catalog
    finally:
        await catalog_source.close()


def trusts_code(resolution: Resolution, allowed: bool) -> bool:
    """True if an engine runs the model's own code. Raises RegistryError if the catalog requires code that this node
    refuses.
    """
    model = resolution.model
    if model.trust_remote_code and not allowed:
        raise RegistryError(
            "remote_code_refused",
            f"the model of task {resolution.task.id}, alias {resolution.alias.id} sets `trust_remote_code` in the"
            " catalog, and this node does not run code that comes with weights",
            "set registry.trust_remote_code = true on this node if you trust the code, or change the catalog",
        )
    return model.trust_remote_code


def find(catalog: Catalog, task: str, alias: str | None) -> Resolution:
    """The resolution of (task, alias). Raises RegistryError with the available names and a close match."""
    found = resolve(catalog, task, alias)
    if isinstance(found, Unresolved):
        raise RegistryError(found.reason, found.message, "list the catalog with `pareta-registry ls`")
    return found
