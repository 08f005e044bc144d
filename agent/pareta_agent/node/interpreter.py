"""Which program runs engines on this node: one that replaces vLLM, an interpreter that was named, or a pinned one."""

from __future__ import annotations

from pareta_agent.config import Settings
from pareta_agent.engine.spec import EngineSettings
from pareta_agent.node import slices
from pareta_agent.telemetry.events import Emit


class Interpreter:
    def __init__(self, settings: Settings, emit: Emit) -> None:
        self._settings, self._emit = settings, emit
        self.version = settings.engine.version or "0.32.0"

    def engine_settings(self) -> EngineSettings:
        return slices.engine_settings(self._settings, self._settings.engine.python, self.version)

    async def ready(self) -> None:
        return
