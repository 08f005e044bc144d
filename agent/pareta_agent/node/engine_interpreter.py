"""Engine interpreter: selects the engine program (a replacement of vLLM, a named interpreter, or the pinned
interpreter).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from pareta_agent.config import Settings
from pareta_agent.engine.install import install
from pareta_agent.engine.install.install import InstallSettings
from pareta_agent.engine.install.interpreter import EngineInterpreter as Found
from pareta_agent.engine.install.interpreter import inspect
from pareta_agent.engine.install.requirements import Platform, choose
from pareta_agent.errors import EngineError
from pareta_agent.hardware.inventory import Inventory
from pareta_agent.hardware.processor import read_processor
from pareta_agent.kernel_check import check as kernels
from pareta_agent.kernel_check.check import KernelCheck
from pareta_agent.planning.support.numerics import Numerics, gpu_key
from pareta_agent.planning.support.probe import SUPPORT, cached, probed
from pareta_agent.planning.support.support import Support
from pareta_agent.planning.support.support_snapshot import SNAPSHOTS
from pareta_agent.telemetry.events import Emit, Event, Phase


class EngineProgram:
    """`use` receives the interpreter once known; `version` is the expected version until then."""

    def __init__(self, settings: Settings, inventory: Inventory, emit: Emit) -> None:
        self._settings, self._emit, self._gpus = settings, emit, inventory.gpus
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
        """The answer of the engine's own selectors, else the shipped table of its version."""
        return cached(self._answers, self.version)

    async def ready(self) -> None:
        """Returns when engines can be started; installs the pinned interpreter where none was named.

        Raises HostError when the named interpreter is unusable or the installation fails; the next call tries again.
        """
        async with self._lock:
            if self._known:
                return
            named = self._settings.engine.python
            found = await inspect(named or await self._install())
            self.version, self._known = found.version, True
            with contextlib.suppress(EngineError):
                await self._check(found)
            self.use(found.path, found.version)
            if found.platform == "cuda":
                self._asking = asyncio.create_task(self._ask(found))
                if found.version not in SNAPSHOTS:
                    await self._asking

    @property
    def device(self) -> str:
        """The device of the kernel check's result: the processor, or the GPU."""
        if self._platform == "cpu" or not self._gpus:
            return read_processor().key
        return gpu_key(self._gpus[0].name or self._gpus[0].uuid, self._gpus[0].compute_capability)

    @property
    def numerics(self) -> Numerics:
        """The kernel check's findings here; empty before the check, and when another program replaces vLLM."""
        device = self.device
        known = (
            None if self._settings.engine.command else kernels.checked(self._answers, self.version, device)
        )
        return Numerics(device, known.wrong if known else ())

    async def check(self, *, again: bool = False) -> KernelCheck:
        """The kernel check's result, stored or new. Raises HostError, EngineError."""
        found = await inspect(self._settings.engine.python or await self._install())
        return await self._check(found, again)

    async def _check(self, found: Found, again: bool = False) -> KernelCheck:
        """Checks the kernels once per engine version and device: engines start only on kernels that passed."""
        device = self.device
        known = kernels.checked(self._answers, found.version, device)
        if known is not None and not again:
            return known
        self._emit(Phase("", "check", "started", detail=f"the kernels of vLLM {found.version}"))
        begun_s = time.perf_counter()
        try:
            result = await kernels.check(found.path, self._answers, found.version, device)
        except EngineError as error:
            self._emit(Phase("", "check", "failed", time.perf_counter() - begun_s, detail=error.message))
            raise
        detail = kernels.summary(result)
        self._emit(Phase("", "check", "done", time.perf_counter() - begun_s, detail=detail))
        return result

    async def _ask(self, found: Found) -> None:
        """Reads this version's supported GPUs from its own selectors: a minute of a core, once per version.

        The shipped table of the version serves meanwhile, and permanently when the selectors do not answer.
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
