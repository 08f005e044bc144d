"""`pareta-agent keys`: callers' keys on the embedded plane."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer
from rich.table import Table

from pareta_agent import config
from pareta_agent.cli.consoles import for_data
from pareta_agent.cli.local_plane import open_local
from pareta_agent.cli.options import AsJson, Config, Home, Listing
from pareta_agent.control.wire import KeyLimits
from pareta_agent.errors import ConfigError

command = typer.Typer(help="Make, list and revoke callers' keys (embedded plane).", cls=Listing)


@command.command()
def create(
    home: Home = None,
    config_file: Config = None,
    org: Annotated[str | None, typer.Option(help="Whose key; the only org if there is one.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="Reach only this endpoint (repeatable).")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Unset: no limit.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Input and output together; unset: no limit.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests at once; unset: no limit.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key; its secret is printed now and never again."""
    settings, _ = config.load({"home": home}, config_file)
    limits = KeyLimits(
        requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute, concurrency=concurrency
    )
    with open_local(settings) as plane:
        minted = plane.state.mint_key(org or only_org(plane.state.org_rows()), endpoint or None, limits)
    if as_json:
        typer.echo(orjson.dumps({"id": minted.id, "org": minted.org, "api_key": minted.secret}).decode())
    else:
        typer.echo(f"{minted.id} of {minted.org}; its secret is shown only now:", err=True)
        typer.echo(minted.secret)


@command.command()
def ls(home: Home = None, config_file: Config = None, as_json: AsJson = False) -> None:
    """List keys, without their secrets."""
    settings, _ = config.load({"home": home}, config_file)
    with open_local(settings) as plane:
        rows = plane.state.key_rows()
    if as_json:
        for row in rows:
            typer.echo(orjson.dumps(row, default=lambda limits: limits.model_dump()).decode())
        return
    table = Table("id", "org", "key", "state", "endpoints", "limits", box=None, pad_edge=False)
    for row in rows:
        scope = "all" if row.endpoints is None else ", ".join(row.endpoints)
        state = "revoked" if row.revoked else "active"
        table.add_row(row.id, row.org, f"{row.prefix}…", state, scope, _in_words(row.limits))
    for_data().print(table)


@command.command()
def revoke(key_id: str, home: Home = None, config_file: Config = None) -> None:
    """Revoke a key by its id; nodes forget it within a heartbeat."""
    settings, _ = config.load({"home": home}, config_file)
    with open_local(settings) as plane:
        plane.state.revoke_key(key_id)
    typer.echo(f"{key_id} revoked", err=True)


def _in_words(limits: KeyLimits) -> str:
    kinds = {
        "requests a minute": limits.requests_per_minute,
        "tokens a minute": limits.tokens_per_minute,
        "at once": limits.concurrency,
    }
    return ", ".join(f"{limit} {kind}" for kind, limit in kinds.items() if limit is not None) or "none"


def only_org(rows: list[tuple[str, int]]) -> str:
    """The one org there is; raises ConfigError when it must be named."""
    if len(rows) != 1:
        raise ConfigError(
            "org_not_named",
            "there are several orgs" if rows else "there is no org yet",
            "name one with --org" if rows else "start the node once, or `pareta-agent org create`",
        )
    return rows[0][0]
