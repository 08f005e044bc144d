"""Command `pareta-agent status`: prints the state of the running node."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pareta_agent import config
from pareta_agent.cli.options import AsJson, Config, Home
from pareta_agent.cli.views.console import for_data
from pareta_agent.hardware.inventory import GIB
from pareta_agent.node.status.admin_socket import ask


def command(
    home: Home = None,
    config_file: Config = None,
    as_json: AsJson = False,
) -> None:
    """Print the running node's endpoints, cold starts, records and lease. Exit 1: no node runs."""
    settings, _ = config.load({"home": home}, config_file)
    status = asyncio.run(ask(config.run_dir(settings.home) / "agent.sock", "GET", "/status"))
    if status is None:
        typer.echo(f"no node runs under {settings.home} (start it with `pareta-agent serve`)", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(orjson.dumps(status).decode())
    else:
        _show(status, for_data())


def _show(status: dict[str, Any], console: Console) -> None:
    console.print(
        f"{status['node']}  [bold]{status['state']}[/]  {status['base_url']}  up {status['uptime_s']:.0f} s"
    )
    for reason in status["reasons"]:
        console.print(
            f"[dim]{'degraded' if status['state'] == 'degraded' else 'not ready'}[/]  {escape(reason)}"
        )
    table = Table(box=None, pad_edge=False)
    for column in ("endpoint", "task", "alias", "status", "replicas", "reason"):
        table.add_column(column)
    for entry in status["endpoints"]:
        refused = f"runs unchanged, update refused: {entry['refused']}" if entry["refused"] else ""
        reason = entry["reason"] or refused
        if (kept := entry["asleep_bytes"]) is not None:
            reason = f"asleep, with {kept / GIB:.1f} GiB of weights in host memory"
        table.add_row(
            entry["id"], entry["task"], entry["alias"], entry["status"], str(entry["replicas"]), reason
        )
    console.print(table)
    if states := Counter(each["state"] for each in status["front_workers"]):
        console.print(f"[dim]workers[/]  {'  '.join(f'{n} {state}' for state, n in states.items())}")
    for each in status["cold_starts"]:
        took = f"{each['count']} × p50 {each['p50_s']:.1f} s  p95 {each['p95_s']:.1f} s"
        console.print(f"[dim]cold start, {each['cause']}[/]  {took}")
    for each in status["prefetch"]:
        done = f"{each['done_bytes']:,} of {each['total_bytes']:,} bytes" if each["total_bytes"] else ""
        reported = "  ".join(filter(None, (each["state"], done, each["reason"])))
        console.print(f"[dim]prefetch[/]  {each['task']}/{each['alias']}  {reported}")
    for name in ("catalog", "spool", "plane"):
        facts = "  ".join(f"{key} {value}" for key, value in status[name].items() if value is not None)
        console.print(f"[dim]{name}[/]  {facts}")
