"""Command `pareta-agent keys`: creates, lists and revokes API keys on the embedded plane."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer
from rich.table import Table

from pareta_agent import config
from pareta_agent.cli.local.local_plane import open_local
from pareta_agent.cli.options import AsJson, Config, Home, Listing
from pareta_agent.cli.views.console import for_data
from pareta_agent.contract.wire import KeyLimits
from pareta_agent.errors import ConfigError

command = typer.Typer(help="Create, list and revoke API keys (embedded plane).", cls=Listing)


@command.command()
def create(
    home: Home = None,
    config_file: Config = None,
    org: Annotated[str | None, typer.Option(help="Org of the key. Unset: the only org.")] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(help="Allow only this endpoint (repeatable). Unset: all.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Maximum requests per minute.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Maximum input and output tokens per minute.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Maximum requests in flight.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print its secret, once. A limit that is unset does not apply."""
    settings, _ = config.load({"home": home}, config_file)
    limits = KeyLimits(
        requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute, concurrency=concurrency
    )
    with open_local(settings) as plane:
        minted = plane.keys.mint(org or only_org(plane.orgs.rows()), endpoint or None, limits)
    if as_json:
        typer.echo(orjson.dumps({"id": minted.id, "org": minted.org, "api_key": minted.secret}).decode())
    else:
        typer.echo(f"{minted.id} of {minted.org}; the secret is printed once:", err=True)
        typer.echo(minted.secret)


@command.command()
def ls(home: Home = None, config_file: Config = None, as_json: AsJson = False) -> None:
    """List keys, without their secrets."""
    settings, _ = config.load({"home": home}, config_file)
    with open_local(settings) as plane:
        rows = plane.keys.rows()
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
    """Revoke a key by its id. Nodes refuse the key within one heartbeat."""
    settings, _ = config.load({"home": home}, config_file)
    with open_local(settings) as plane:
        plane.keys.revoke(key_id)
    typer.echo(f"{key_id} revoked", err=True)


def _in_words(limits: KeyLimits) -> str:
    kinds = {
        "requests a minute": limits.requests_per_minute,
        "tokens a minute": limits.tokens_per_minute,
        "at once": limits.concurrency,
    }
    return ", ".join(f"{limit} {kind}" for kind, limit in kinds.items() if limit is not None) or "none"


def only_org(rows: list[tuple[str, int]]) -> str:
    """The only org. Raises ConfigError with no org or several."""
    if len(rows) != 1:
        raise ConfigError(
            "org_not_named",
            "the plane has several orgs" if rows else "the plane has no org",
            "pass --org" if rows else "start the node once, or run `pareta-agent org create`",
        )
    return rows[0][0]
