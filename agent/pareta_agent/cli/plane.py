"""Command `pareta-agent plane`: runs a control plane for several nodes, and manages its nodes."""

from __future__ import annotations

import socket
from typing import Annotated

import orjson
import typer
from rich.table import Table

from pareta_agent import config
from pareta_agent.catalog.source import CatalogSource
from pareta_agent.cli.local.local_plane import open_local
from pareta_agent.cli.options import AsJson, Config, Home
from pareta_agent.cli.views.console import for_data
from pareta_agent.clock import SystemClock
from pareta_agent.node.settings_map import catalog_place
from pareta_agent.plane.standalone import serve as serve_plane
from pareta_agent.settings import unbracketed
from pareta_agent.telemetry import sink
from pareta_agent.telemetry.log import listener

command = typer.Typer(
    help="Run a control plane for several nodes, and manage the nodes.", no_args_is_help=True
)


@command.command()
def serve(
    home: Home = None,
    config_file: Config = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on. 0: any free port.")] = 8700,
    database: Annotated[
        str | None,
        typer.Option(help="SQLAlchemy URL (PostgreSQL). Unset: `plane.database`, or SQLite under `home`."),
    ] = None,
    catalog: Annotated[str | None, typer.Option(help="Directory or address of the catalog.")] = None,
) -> None:
    """Serve the wire and the public API until SIGTERM. Output: one JSON line once the port listens."""
    sink.install()
    flags = {"home": home, "plane.database": database, "registry.catalog": catalog}
    settings, _ = config.load(flags, config_file)
    there, catalog_source = (
        settings.plane,
        CatalogSource(catalog_place(settings), SystemClock(), listener(settings.log_level)),
    )
    raise typer.Exit(
        serve_plane(
            settings.home,
            None,
            there.database,
            unbracketed(host),
            port,
            frontier=there.frontier,
            catalog_source=catalog_source,
        )
    )


@command.command()
def token(
    node: Annotated[str, typer.Argument(help="Node id.")] = socket.gethostname(),
    home: Home = None,
    config_file: Config = None,
    as_json: AsJson = False,
) -> None:
    """Create a token for a node and print it once. The node's previous token is revoked."""
    settings, _ = config.load({"home": home}, config_file)
    with open_local(settings) as plane:
        minted = plane.nodes.mint(node)
    typer.echo(orjson.dumps({"node": node, "token": minted}).decode() if as_json else minted)


@command.command()
def nodes(home: Home = None, config_file: Config = None, as_json: AsJson = False) -> None:
    """List the nodes with epoch, state and last heartbeat."""
    settings, _ = config.load({"home": home}, config_file)
    with open_local(settings) as plane:
        rows = plane.nodes.rows()
    if as_json:
        for row in rows:
            typer.echo(orjson.dumps(row).decode())
        return
    table = Table("node", "epoch", "state", "last heartbeat", box=None, pad_edge=False)
    for row in rows:
        age = "never" if row.heartbeat_age_s is None else f"{row.heartbeat_age_s:.0f} s ago"
        table.add_row(row.id, str(row.epoch), row.state, age)
    for_data().print(table, highlight=False)
