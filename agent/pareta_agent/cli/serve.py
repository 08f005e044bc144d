"""Command `pareta-agent serve`: joins settings, plane (embedded or hosted), node and event listeners, and runs them."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from pareta_agent import config, processes
from pareta_agent.catalog.source import CatalogSource, find
from pareta_agent.cli.options import Config
from pareta_agent.cli.views.terminal import JsonLines, Terminal, ready_block, ready_fields
from pareta_agent.clock import SystemClock
from pareta_agent.config import EndpointEntry, Settings
from pareta_agent.errors import ConfigError
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.node.engine_interpreter import EngineProgram
from pareta_agent.node.identity import StoredIdentity, identify, prepare
from pareta_agent.node.node import Node
from pareta_agent.node.readiness import PlaneAddress, Ready
from pareta_agent.node.settings_map import catalog_place
from pareta_agent.node.signals import Signals
from pareta_agent.node.upgrade.predecessor import Predecessor
from pareta_agent.plane import embedded
from pareta_agent.plane.seed import price_of
from pareta_agent.telemetry import log, sink
from pareta_agent.telemetry.events import Bus, Event
from pareta_registry.catalog import Catalog

SETTLE_S = 1.0
FirstKey = Callable[[], Awaitable[str | None]]


def command(
    config_file: Config = None,
    home: Annotated[Path | None, typer.Option(help="Directory of the node's state.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. 0: any free port.")] = None,
    task: Annotated[str | None, typer.Option(help="Task to deploy on the embedded plane.")] = None,
    alias: Annotated[str | None, typer.Option(help="Alias of the task's model.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Endpoint id, which callers send as `model`.")] = None,
    catalog: Annotated[str | None, typer.Option(help="Directory or address of the catalog.")] = None,
    engine_python: Annotated[Path | None, typer.Option(help="Interpreter that has vLLM.")] = None,
    engine_command: Annotated[str | None, typer.Option(help="Program that replaces vLLM's server.")] = None,
    plane_url: Annotated[str | None, typer.Option(help="URL of the control plane. Unset: embedded.")] = None,
    plane_token_file: Annotated[Path | None, typer.Option(help="File with the node token.")] = None,
    drain_timeout: Annotated[
        float | None, typer.Option(help="Maximum seconds for admitted requests to finish.")
    ] = None,
    front_workers: Annotated[int | None, typer.Option(help="Worker processes that serve callers.")] = None,
    standby: Annotated[int | None, typer.Option(help="Standby processes for short cold starts.")] = None,
    canary: Annotated[bool | None, typer.Option(help="Require a correct canary answer.")] = None,
    upgrade: Annotated[
        bool, typer.Option(help="Hot restart: take over from the running agent without a lost call.")
    ] = False,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Print events as JSON lines on standard output.")
    ] = False,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run the node until SIGTERM: resolve, plan, fetch, start engines, serve, meter, report."""
    flags = {
        "home": home,
        "host": host,
        "port": port,
        "task": task,
        "alias": alias,
        "endpoint": endpoint,
        "registry.catalog": catalog,
        "engine.python": engine_python,
        "engine.command": engine_command,
        "engine.standby": standby,
        "front.workers": front_workers,
        "plane.url": plane_url,
        "plane.token_file": plane_token_file,
        "drain_timeout_s": drain_timeout,
        "canary": canary,
        "log_level": log_level,
    }
    sink.install()
    settings, warnings = config.load(flags, config_file)
    raise typer.Exit(uvloop.run(_serve(settings, warnings, json_lines, upgrade)))


async def _serve(settings: Settings, warnings: list[str], json_lines: bool, upgrade: bool) -> int:
    """Joins plane, node and listeners. Returns the exit code."""
    processes.allow_open_files()
    bus, signals = Bus(), Signals()
    show = JsonLines(_write) if json_lines else Terminal(Console(stderr=True))
    bus.listen(show)
    if json_lines:
        bus.listen(log.listener(settings.log_level))
    for warning in warnings:
        bus(Event("setting_ignored", "warning", {"reason": warning}))
    prepare(settings.home)
    identity = identify(settings.home, settings.node)
    catalog_source = CatalogSource(catalog_place(settings), SystemClock(), bus)
    replacing = asyncio.create_task(_replace(signals, bus))
    try:
        await signals.unless_stopped(catalog_source.open())
        if signals.stop.is_set():
            return 0
        async with _plane(settings, identity, catalog_source.catalog, bus) as (address, first_key):

            async def tell(ready: Ready) -> None:
                await _tell_ready(show, ready, await first_key())

            predecessor = await signals.unless_stopped(_predecessor(settings, bus)) if upgrade else None
            if signals.stop.is_set():
                return 0
            return await Node(
                settings, identity, catalog_source, address, bus, signals, tell, predecessor=predecessor
            ).run()
    finally:
        replacing.cancel()
        show.close()
        await catalog_source.close()


async def _predecessor(settings: Settings, bus: Bus) -> Predecessor | None:
    """The running agent, called after the engine is installed and checked. None, with an event, if no agent runs."""
    await EngineProgram(settings, read_inventory(), bus).ready()
    predecessor = await Predecessor.call(config.run_dir(settings.home), bus)
    if predecessor is None:
        bus(
            Event(
                "nothing_to_upgrade",
                "warning",
                {"reason": "no agent of this home runs: this agent starts without a handover"},
            )
        )
    return predecessor


async def _replace(signals: Signals, bus: Bus) -> None:
    """Starts the program on disk as successor on each SIGUSR2 (systemd's reload)."""
    while True:
        await signals.replace.wait()
        signals.replace.clear()
        argv = [word for word in sys.argv[1:] if word != "--upgrade"]
        successor = await processes.spawn(
            [sys.executable, "-m", "pareta_agent", *argv, "--upgrade"],
            env=config.environment(),
            share_output=True,
        )
        code = await successor.wait()
        bus(
            Event("upgrade_failed", "error", {"exit_code": code, "reason": "see the output of the new agent"})
        )


@asynccontextmanager
async def _plane(
    settings: Settings, identity: StoredIdentity, catalog: Catalog, bus: Bus
) -> AsyncIterator[tuple[PlaneAddress, FirstKey]]:
    """The configured plane, or an embedded plane while the node runs; and the source of the first API key."""
    if settings.plane.url:
        if settings.plane.token_file is None:
            raise ConfigError(
                "token_missing",
                "plane.url requires plane.token_file",
                "set it to the file with the node token",
            )
        yield PlaneAddress(settings.plane.url, _token(settings.plane.token_file)), _no_key
        return
    seed = _seed(settings, identity, catalog)
    plane = await embedded.start(settings.home, seed, database=settings.plane.database)
    keeper = asyncio.create_task(plane.keep(bus))
    try:
        yield PlaneAddress(plane.url, plane.node_token, embedded=True), plane.first_key
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await plane.stop()


async def _no_key() -> None:
    """The first key of a hosted plane: None."""


def _seed(settings: Settings, identity: StoredIdentity, catalog: Catalog) -> embedded.Seed:
    """The seed of the embedded plane: the endpoints of the settings, each with a resolved alias."""
    entries = settings.endpoints or (
        EndpointEntry(id=settings.endpoint, task=settings.task, alias=settings.alias),
    )
    seeds: list[embedded.SeedEndpoint] = []
    for entry in entries:
        alias = find(catalog, entry.task, entry.alias).alias
        name = entry.id or endpoint_id(alias.id)
        if any(each.id == name for each in seeds):
            raise ConfigError(
                "endpoint_twice", f"two endpoints have the id {name}", "set another `id` for one of the two"
            )
        seeds.append(
            embedded.SeedEndpoint(
                id=name,
                task=entry.task,
                alias=alias.id,
                price=price_of(alias),
                idle_sleep_s=entry.idle_sleep_s,
            )
        )
    balance = round(settings.plane.balance_usd * 1_000_000)
    return embedded.Seed(
        node=identity.node,
        endpoints=tuple(seeds),
        balance_micro_usd=balance,
        catalog=settings.registry.catalog,
        channel=settings.registry.channel,
        frontier=settings.plane.frontier,
    )


def endpoint_id(alias: str) -> str:
    """The default id of an endpoint: the alias without its rank, `contract-kie-1` → `ep_contract_kie`."""
    family, _, rank = alias.rpartition("-")
    return "ep_" + (family if rank.isdigit() and family else alias).replace("-", "_").replace(".", "_")


def _token(path: Path) -> str:
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            "token_unreadable", f"{path}: {error.strerror}", "make the file readable for this user"
        ) from None
    if re.fullmatch(rb"[!-~]+", token) is None:
        what = "does not contain exactly one word of visible ASCII" if token else "is empty"
        remedy = "write the node token to the file (`pareta-agent plane token` on the plane's host creates a token)"
        raise ConfigError("token_invalid", f"{path} {what}", remedy)
    return token.decode()


async def _tell_ready(show: JsonLines | Terminal, ready: Ready, key: str | None) -> None:
    if isinstance(show, JsonLines):
        show.line("ready", ready_fields(ready, key))
    else:
        show.close()
        await asyncio.to_thread(sink.settle, SETTLE_S)  # the Ready block follows all earlier output
        _write(ready_block(ready, key))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
