"""Command `pareta-agent usage`: prints the embedded plane's ledger, and counts records that are not delivered."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from pareta_agent import config
from pareta_agent.cli.local.local_plane import dollars, open_local
from pareta_agent.cli.local.local_spool import open_spool
from pareta_agent.cli.options import AsJson, Config, Home
from pareta_agent.cli.views.console import for_data
from pareta_agent.config import Settings
from pareta_agent.meter.spool import spool_path
from pareta_agent.node.status.admin_socket import ask

_FIELDS = (
    "request_id",
    "endpoint",
    "org",
    "outcome",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "debit_micro_usd",
    "epoch",
    "sequence",
)


def command(
    home: Home = None,
    config_file: Config = None,
    endpoint: Annotated[str | None, typer.Option(help="Print only this endpoint.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Print only so many of the newest rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print usage and debits, the oldest first, from the node's files. A running node first delivers its records."""
    settings, _ = config.load({"home": home}, config_file)
    asyncio.run(ask(config.run_dir(settings.home) / "agent.sock", "POST", "/flush"))
    with open_local(settings) as plane:
        rows = plane.ledger.rows(endpoint=endpoint, limit=limit)
    if as_json:
        for row in rows:
            typer.echo(orjson.dumps({name: row[name] for name in _FIELDS}).decode())
    else:
        _show(rows, for_data())
    _say_what_is_missing(settings)


def _show(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("request", "endpoint", "outcome", "input", "output", "debit USD"):
        table.add_column(column, justify="right" if column in ("input", "output", "debit USD") else "left")
    for row in rows:
        counts = (str(row["input_tokens"]), str(row["output_tokens"]), dollars(row["debit_micro_usd"]))
        table.add_row(row["request_id"], row["endpoint"], row["outcome"], *counts)
    console.print(table)
    total = sum(row["debit_micro_usd"] for row in rows)
    console.print(f"[dim]{len(rows)} requests, {dollars(total)} USD debited[/]", highlight=False)


def _say_what_is_missing(settings: Settings) -> None:
    path = spool_path(settings.home)
    if not path.exists():
        return
    with open_spool(path) as reader:
        undelivered, left_open = reader.undelivered(), reader.open_requests()
    if undelivered or left_open:
        typer.echo(
            f"in the spool, not in the ledger: {undelivered} records, {left_open} open requests", err=True
        )
