"""`pareta-agent spool`: look at the node's usage records on disk, check them, take them out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from pareta_agent import config
from pareta_agent.errors import HostError
from pareta_agent.meter.reader import Reader
from pareta_agent.meter.spool import spool_path
from pareta_agent.meter.verify import verify as flaws_of

command = typer.Typer(help="The node's usage records on disk.", no_args_is_help=True)

Home = Annotated[Path | None, typer.Option(help="Where the node keeps everything.")]


@command.command()
def ls(home: Home = None, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the epochs: what is kept, what the plane has acked, what it refused."""
    with _reader(home) as reader:
        epochs, refused = reader.epochs(), reader.quarantined()
        undelivered, left_open = reader.undelivered(), reader.open_requests()
    if as_json:
        for row in epochs:
            typer.echo(orjson.dumps(row).decode())
        return
    table = Table("epoch", "kept from", "last", "acked", box=None, pad_edge=False)
    for row in epochs:
        table.add_row(str(row.epoch), str(row.first_kept or "-"), str(row.last_seq), str(row.acked_seq))
    console = Console()
    console.print(table, highlight=False)
    console.print(
        f"[dim]{undelivered} undelivered, {left_open} open, {len(refused)} refused[/]", highlight=False
    )
    for epoch, sequence, reason in refused:
        console.print(f"[red]refused[/] {epoch}-{sequence}: {reason}", highlight=False)


@command.command()
def verify(home: Home = None) -> None:
    """Check every kept record against its hash and its neighbours; exit 1 when something is wrong."""
    with _reader(home) as reader:
        flaws = list(flaws_of(reader.every()))
    for flaw in flaws:
        typer.echo(f"{flaw.epoch}-{flaw.sequence}: {flaw.what}")
    typer.echo(f"{len(flaws)} flaws", err=True)
    if flaws:
        raise typer.Exit(1)


@command.command()
def export(home: Home = None) -> None:
    """Write every kept record to stdout as CloudEvents, one a line."""
    with _reader(home) as reader:
        for entry in reader.every():
            typer.echo(entry.wire().decode())


@contextmanager
def _reader(home: Path | None) -> Iterator[Reader]:
    settings, _ = config.load({"home": home})
    path = spool_path(settings.home)
    if not path.exists():
        raise HostError(
            "spool_missing", f"there is no spool at {path}", "start the node once, or name its --home"
        )
    reader = Reader(path)
    try:
        yield reader
    finally:
        reader.close()
