"""Command `pareta-agent org`: manages orgs, balances and policies on the embedded plane."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated

import orjson
import typer
from rich.table import Table

from pareta_agent import config
from pareta_agent.cli.keys import only_org
from pareta_agent.cli.local.local_plane import dollars, open_local
from pareta_agent.cli.options import AsJson, Config, Home, Listing
from pareta_agent.cli.views.console import for_data
from pareta_agent.errors import ConfigError

command = typer.Typer(help="Manage orgs and their balances (embedded plane).", cls=Listing)


@command.command()
def ls(home: Home = None, config_file: Config = None, as_json: AsJson = False) -> None:
    """List orgs and balances."""
    settings, _ = config.load({"home": home}, config_file)
    with open_local(settings) as plane:
        rows = [(org, balance, plane.orgs.partial(org)) for org, balance in plane.orgs.rows()]
    if as_json:
        for org, balance, partial in rows:
            typer.echo(orjson.dumps({"org": org, "balance_micro_usd": balance, "partial": partial}).decode())
        return
    table = Table("org", "balance USD", "partial", box=None, pad_edge=False)
    for org, balance, partial in rows:
        table.add_row(org, dollars(balance), partial)
    for_data().print(table, highlight=False)


@command.command()
def topup(
    usd: Annotated[str, typer.Argument(help="Amount in USD, with at most six decimals.")],
    home: Home = None,
    config_file: Config = None,
    org: Annotated[str | None, typer.Option(help="Org. Unset: the only org.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add an amount to an org's balance and print the new balance."""
    settings, _ = config.load({"home": home}, config_file)
    amount = _micro_usd(usd)
    with open_local(settings) as plane:
        named = org or only_org(plane.orgs.rows())
        balance = plane.orgs.top_up(named, amount)
    row = {"org": named, "balance_micro_usd": balance}
    typer.echo(orjson.dumps(row).decode() if as_json else dollars(balance))


class Partial(StrEnum):
    NONE = "none"
    DELIVERED = "delivered"


@command.command()
def policy(
    partial: Annotated[
        Partial, typer.Option(help="Debit of partial answers: `none`, or `delivered` tokens.")
    ],
    home: Home = None,
    config_file: Config = None,
    org: Annotated[str | None, typer.Option(help="Org. Unset: the only org.")] = None,
) -> None:
    """Set the debit of partial answers, which callers left before the end. Default: none."""
    settings, _ = config.load({"home": home}, config_file)
    with open_local(settings) as plane:
        named = org or only_org(plane.orgs.rows())
        plane.orgs.set_partial(named, partial.value)
    typer.echo(f"{named}: partial {partial.value}", err=True)


@command.command()
def create(org: str, home: Home = None, config_file: Config = None) -> None:
    """Create an org with balance 0."""
    settings, _ = config.load({"home": home}, config_file)
    with open_local(settings) as plane:
        made = plane.orgs.ensure(org, 0)
    typer.echo(f"{org} created" if made else f"{org} exists already", err=True)


def _micro_usd(usd: str) -> int:
    """The amount in micro-dollars. Raises ConfigError unless the amount is positive and has at most six decimals."""
    try:
        micro = Decimal(usd) * 1_000_000
    except InvalidOperation:
        micro = Decimal(0)
    if not micro.is_finite() or micro <= 0 or micro != micro.to_integral_value():
        raise ConfigError(
            "amount_invalid", f"{usd!r} is no amount in USD", "pass an amount such as 5 or 0.25"
        )
    return int(micro)
