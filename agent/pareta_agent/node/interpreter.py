"""Which program runs engines on this node: one that replaces vLLM, an interpreter that was named, or a pinned one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from pareta_agent.config import Settings
from pareta_agent.engine import install
from pareta_agent.engine.install import InstallSettings
from pareta_agent.engine.interpreter import inspect
from pareta_agent.engine.pins import Platform, choose
from pareta_agent.hardware.inventory import Inventory
from pareta_agent.telemetry.events import Emit


class Interpreter:
    """`use` hears of the interpreter once it is certain; `version` is what is expected until then."""

    def __init__(self, settings: Settings, inventory: Inventory, emit: Emit) -> None:
        self._settings, self._emit = settings, emit
        engine = settings.engine
        self._platform: Platform = (
            engine.platform if engine.platform != "auto" else ("cuda" if inventory.gpus else "cpu")
        )
        self.version = choose(self._platform, engine.version).version
        self.use: Callable[[Path, str], None] = lambda _python, _version: None
        self._lock = asyncio.Lock()
        self._known = bool(engine.command)

    async def ready(self) -> None:
        """Returns when engines can be started; installs the pinned interpreter where none was named.

        Raises HostError when the named one is of no use or the installation fails; the next call tries again.
        """
        async with self._lock:
            if self._known:
                return
            named = self._settings.engine.python
            found = await inspect(named or await self._install())
            self.version, self._known = found.version, True
            self.use(found.path, found.version)

    async def _install(self) -> Path:
        settings = self._settings
        return await install.ensure(
            InstallSettings(settings.cache, self._platform, settings.engine.version), self._emit
        )
