"""Command `pareta-agent engine`: installs, checks and lists engine interpreters."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pareta_agent import config
from pareta_agent.cli.options import AsJson, Config, Listing
from pareta_agent.engine.install import install as installing
from pareta_agent.engine.install.install import Installed, InstallSettings
from pareta_agent.engine.install.requirements import Platform, committed
from pareta_agent.errors import AgentError, ConfigError, EngineError
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.kernel_check import check as kernels
from pareta_agent.node.engine_interpreter import EngineProgram
from pareta_agent.telemetry.events import Event, Phase

command = typer.Typer(name="engine", help="Install, check and list engines.", cls=Listing)


@dataclass(slots=True)
class _Talk:
    """Progress on standard error: one line per tenth of the packages, never a spinner."""

    as_json: bool
    reported: int = -1

    def __call__(self, event: Phase | Event) -> None:
        if self.as_json:
            return
        if isinstance(event, Event):
            typer.echo(f"{event.name}: {', '.join(str(value) for value in event.fields.values())}", err=True)
        elif event.state == "progress" and event.total:
            tenth = 10 * (event.done or 0) // event.total
            if tenth != self.reported or event.done == event.total:
                typer.echo(f"  {event.done}/{event.total} packages  {event.detail}", err=True)
            self.reported = tenth
        elif event.state in ("started", "failed"):
            typer.echo(f"{event.state}: {event.detail}", err=True)
        elif event.seconds is not None:
            typer.echo(f"done in {event.seconds:.0f} s: {event.detail}", err=True)


@command.command()
def install(
    cpu: Annotated[bool, typer.Option("--cpu", help="Install the CPU build.")] = False,
    cuda: Annotated[bool, typer.Option("--cuda", help="Install the CUDA build.")] = False,
    version: Annotated[str | None, typer.Option(help="Pinned version. Unset: the newest.")] = None,
    as_json: AsJson = False,
    config_file: Config = None,
) -> None:
    """Install the engine's interpreter from the pinned requirements. A repeated run resumes, or finds nothing to do."""
    if cpu and cuda:
        raise ConfigError("usage", "--cpu and --cuda exclude each other", "pass one of the two options")
    settings, _ = config.load({}, config_file)
    platform: Platform = "cuda" if cuda else "cpu" if cpu else _platform(settings.engine.platform)
    wanted = InstallSettings(settings.cache, platform, version or settings.engine.version)
    talk = _Talk(as_json)
    python = asyncio.run(installing.ensure(wanted, talk))
    found = next(engine for engine in installing.installed(settings.cache) if engine.python == python)
    if platform == "cpu" or read_inventory().gpus:
        _check_installed(settings, python, talk)
    typer.echo(json.dumps(_row(found)) if as_json else str(python))


def _check_installed(settings: config.Settings, python: Path, talk: _Talk) -> None:
    """Checks the kernels of a new engine. A failed check does not fail the installation."""
    named = settings.model_copy(update={"engine": settings.engine.model_copy(update={"python": python})})
    with contextlib.suppress(AgentError):
        asyncio.run(EngineProgram(named, read_inventory(), talk).check())


@command.command()
def check(
    again: Annotated[
        bool, typer.Option("--again", help="Repeat the check, even with a stored result.")
    ] = False,
    as_json: AsJson = False,
    config_file: Config = None,
) -> None:
    """Compare the engine's kernels with float32 on this device, and store the result by version and device."""
    settings, _ = config.load({}, config_file)
    if settings.engine.command:
        raise ConfigError(
            "usage", "engine.command replaces vLLM: no kernels to check", "unset engine.command"
        )
    engine = EngineProgram(settings, read_inventory(), _Talk(as_json))
    found = asyncio.run(engine.check(again=again))
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        typer.echo(f"vLLM {found.version} on {found.device.partition('|')[0]}")
        for line in kernels.table(found):
            typer.echo(line)
    if found.wrong:
        raise typer.Exit(EngineError.exit_code)


@command.command()
def ls(
    as_json: AsJson = False,
    config_file: Config = None,
) -> None:
    """List installed and available engines."""
    settings, _ = config.load({}, config_file)
    found = installing.installed(settings.cache)
    there = {(engine.platform, engine.version) for engine in found}
    found += [
        Installed(pins.name, pins.platform, pins.version, None, state="available")
        for pins in committed()
        if (pins.platform, pins.version) not in there
    ]
    for engine in found:
        line = f"{engine.platform:5} {engine.version:10} {engine.state:10} {engine.python or ''}".rstrip()
        typer.echo(json.dumps(_row(engine)) if as_json else line)


def _row(engine: Installed) -> dict[str, str | None]:
    return {
        "name": engine.name,
        "platform": engine.platform,
        "version": engine.version,
        "state": engine.state,
        "python": str(engine.python) if engine.python else None,
    }


def _platform(configured: str) -> Platform:
    """The platform of `auto`: the CUDA build on a host with GPUs by NVML, else the CPU build."""
    if configured in ("cpu", "cuda"):
        return configured  # type: ignore[return-value]
    return "cuda" if read_inventory().gpus else "cpu"
