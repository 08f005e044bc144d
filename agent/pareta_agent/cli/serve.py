"""`pareta-agent serve`: the settings, the plane (embedded unless one is named), the node, and who listens to it."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from pareta_agent import config
from pareta_agent.cli.terminal import JsonLines, Terminal, ready_block, ready_fields
from pareta_agent.clock import SystemClock
from pareta_agent.config import Settings
from pareta_agent.errors import ConfigError
from pareta_agent.node import Node, PlaneAddress, Ready
from pareta_agent.plane import embedded
from pareta_agent.telemetry import log
from pareta_agent.telemetry.events import Bus, Event


def command(
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")] = None,
    home: Annotated[Path | None, typer.Option(help="Where everything of this node is kept.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    task: Annotated[str | None, typer.Option(help="Task to deploy on the embedded plane.")] = None,
    alias: Annotated[str | None, typer.Option(help="Alias of the task's model.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Endpoint id, what callers pass as `model`.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Catalog directory.")] = None,
    engine_python: Annotated[Path | None, typer.Option(help="Interpreter that has vLLM.")] = None,
    engine_command: Annotated[
        str | None, typer.Option(help="Program in the place of vLLM's API server.")
    ] = None,
    plane_url: Annotated[
        str | None, typer.Option(help="Control plane; without one, a plane is embedded.")
    ] = None,
    plane_token_file: Annotated[Path | None, typer.Option(help="File that holds the node's token.")] = None,
    drain_timeout: Annotated[
        float | None, typer.Option(help="Seconds that admitted requests may finish in.")
    ] = None,
    standby: Annotated[int | None, typer.Option(help="Pre-imported engines kept warm.")] = None,
    canary: Annotated[bool | None, typer.Option(help="Ask a known question before going live.")] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Events as JSON lines on standard output.")
    ] = False,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run this node until SIGTERM: resolve, plan, fetch, start the engine, serve, meter, report."""
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
        "plane.url": plane_url,
        "plane.token_file": plane_token_file,
        "drain_timeout_s": drain_timeout,
        "canary": canary,
        "log_level": log_level,
    }
    settings, warnings = config.load(flags, config_file)
    raise typer.Exit(uvloop.run(_serve(settings, warnings, json_lines)))
