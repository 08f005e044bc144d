"""Which program runs engines on this node: one that replaces vLLM, an interpreter that was named, or a pinned one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from pareta_agent.config import Settings
from pareta_agent.engine import install
from pareta_agent.engine.install import InstallSettings
from pareta_agent.engine.interpreter import Interpreter as Found
from pareta_agent.engine.interpreter import inspect
from pareta_agent.engine.pins import Platform, choose
from pareta_agent.errors import EngineError
from pareta_agent.hardware.inventory import Inventory
from pareta_agent.planning.probe import SUPPORT, cached, probed
from pareta_agent.planning.support import Support
from pareta_agent.planning.support_snapshot import SNAPSHOTS
from pareta_agent.telemetry.events import Emit, Event


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
        self._answers = settings.cache / SUPPORT
        self._asking: asyncio.Task[None] | None = None

    @property
    def support(self) -> Support:
        """What the engine's own selectors answered, else the shipped table of its version."""
        return cached(self._answers, self.version)

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
            if found.platform == "cuda":
                self._asking = asyncio.create_task(self._ask(found))
                if found.version not in SNAPSHOTS:
                    await self._asking

    async def _ask(self, found: Found) -> None:
        """What this version runs on which GPU, from its own selectors: a minute of one core, once a version. The
        shipped table does meanwhile where it has the version, and at all where the selectors cannot be asked.
        """
        try:
            await probed(found.path, self._answers, found.version)
        except (EngineError, OSError, TimeoutError) as error:
            self._emit(Event("support_unknown", "warning", {"version": found.version, "reason": str(error)}))

    async def _install(self) -> Path:
        settings = self._settings
        return await install.ensure(
            InstallSettings(settings.cache, self._platform, settings.engine.version), self._emit
        )
