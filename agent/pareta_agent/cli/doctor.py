"""Command `pareta-agent doctor`: prints one line per check with its level and its remedy."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import typer
from rich.markup import escape

from pareta_agent import config
from pareta_agent.cli.diagnosis.facts import read_facts
from pareta_agent.cli.diagnosis.findings import Finding
from pareta_agent.cli.diagnosis.host_checks import findings
from pareta_agent.cli.options import AsJson, Config, Home
from pareta_agent.cli.views.console import for_data
from pareta_agent.errors import HostError

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def command(
    config_file: Config = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check everything that a start requires. Exit 0: no check failed (warnings may exist). Exit 4: a check failed."""
    settings, warnings = config.load({"home": home}, config_file)
    found = [
        *(Finding("settings", "warn", warning) for warning in warnings),
        *findings(asyncio.run(read_facts(settings))),
    ]
    console = for_data()
    for one in found:
        if as_json:
            typer.echo(json.dumps(asdict(one)))
        else:
            console.print(_line(one), highlight=False, soft_wrap=True)
    if any(one.level == "fail" for one in found):
        raise typer.Exit(HostError.exit_code)


def _line(one: Finding) -> str:
    remedy = f"  [dim]→ {escape(one.remedy)}[/]" if one.remedy else ""
    return f"[{_STYLES[one.level]}]{one.level:<5}[/]{one.check:<10}{escape(one.message)}{remedy}"
