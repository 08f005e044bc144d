"""Command `pareta-agent spool`: lists, verifies and exports the node's usage records on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import typer
from rich.table import Table

from pareta_agent import config
from pareta_agent.cli.local.local_spool import open_spool
from pareta_agent.cli.options import AsJson, Config, Home, Listing
from pareta_agent.cli.views.console import for_data
from pareta_agent.errors import HostError
from pareta_agent.meter.chain_check import verify as flaws_of
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.meter.spool import spool_path

command = typer.Typer(help="List, verify and export usage records on disk.", cls=Listing)


@command.command()
def ls(home: Home = None, config_file: Config = None, as_json: AsJson = False) -> None:
    """List the epochs with kept, acknowledged and refused records."""
    with _reader(home, config_file) as reader:
        epochs, refused = reader.epochs(), reader.quarantined()
        undelivered, left_open = reader.undelivered(), reader.open_requests()
    if as_json:
        for row in epochs:
            typer.echo(orjson.dumps(row).decode())
        return
    table = Table("epoch", "kept from", "last", "acked", box=None, pad_edge=False)
    for row in epochs:
        table.add_row(str(row.epoch), str(row.first_kept or "-"), str(row.last_seq), str(row.acked_seq))
    console = for_data()
    console.print(table, highlight=False)
    console.print(
        f"[dim]{undelivered} undelivered, {left_open} open, {len(refused)} refused[/]", highlight=False
    )
    for epoch, sequence, reason in refused:
        console.print(f"[red]refused[/] {epoch}-{sequence}: {reason}", highlight=False)


@command.command()
def verify(home: Home = None, config_file: Config = None, as_json: AsJson = False) -> None:
    """Verify the hash and the sequence of every kept record. Exit 1: a record has a flaw."""
    with _reader(home, config_file) as reader:
        flaws = list(flaws_of(reader.every()))
    if as_json:
        typer.echo(orjson.dumps({"flaws": flaws}).decode())
    else:
        for flaw in flaws:
            typer.echo(f"{flaw.epoch}-{flaw.sequence}: {flaw.what}")
        typer.echo(f"{len(flaws)} flaws", err=True)
    if flaws:
        raise typer.Exit(1)


@command.command()
def export(home: Home = None, config_file: Config = None) -> None:
    """Print every kept record as a CloudEvent, one a line."""
    with _reader(home, config_file) as reader:
        for entry in reader.every():
            typer.echo(entry.wire().decode())


@contextmanager
def _reader(home: Path | None, config_file: Path | None) -> Iterator[SpoolReader]:
    settings, _ = config.load({"home": home}, config_file)
    path = spool_path(settings.home)
    if not path.exists():
        raise HostError(
            "spool_missing", f"no spool exists at {path}", "start the node once, or pass its --home"
        )
    with open_spool(path) as reader:
        yield reader
