"""`pareta-agent doctor`: one line a check, ok, warn or fail, with what to do about it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pareta_agent import config
from pareta_agent.cli.doctor_checks import Finding, findings
from pareta_agent.cli.doctor_facts import read_facts
from pareta_agent.errors import HostError

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def command(
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")] = None,
    home: Annotated[Path | None, typer.Option(help="Where the node keeps everything.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a check.")] = False,
) -> None:
    """Look at all that a start needs. Exit 0 when nothing fails (warnings are no failures), 4 when something does."""
    settings, warnings = config.load({"home": home}, config_file)
    found = [
        *(Finding("settings", "warn", warning) for warning in warnings),
        *findings(asyncio.run(read_facts(settings))),
    ]
    console = Console(soft_wrap=True)
    for one in found:
        if as_json:
            typer.echo(json.dumps(asdict(one)))
        else:
            console.print(_line(one), highlight=False)
    if any(one.level == "fail" for one in found):
        raise typer.Exit(HostError.exit_code)


def _line(one: Finding) -> str:
    remedy = f"  [dim]→ {escape(one.remedy)}[/]" if one.remedy else ""
    return f"[{_STYLES[one.level]}]{one.level:<5}[/]{one.check:<10}{escape(one.message)}{remedy}"
