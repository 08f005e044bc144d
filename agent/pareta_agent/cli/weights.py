"""Command `pareta-agent weights`: lists, verifies and removes the artifacts on this disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import typer
from rich.console import Console

from pareta_agent import config
from pareta_agent.cli.options import AsJson, Config, Home, Listing
from pareta_agent.cli.pull import teller
from pareta_agent.cli.views.terminal import Terminal
from pareta_agent.errors import RegistryError
from pareta_agent.node.settings_map import weights_settings
from pareta_agent.weights.store import WeightsStore

command = typer.Typer(help="List, verify and remove the artifacts on this disk.", cls=Listing)


@command.command()
def ls(home: Home = None, config_file: Config = None, as_json: AsJson = False) -> None:
    """List artifacts by digest, the least recently used first."""
    digests = _store(home, config_file).digests()
    if not digests:
        typer.echo(
            "no weights on this disk (`pareta-agent pull TASK` fetches the weights of a task)", err=True
        )
    for digest in digests:
        typer.echo(orjson.dumps({"digest": digest}).decode() if as_json else digest)


@command.command()
def verify(home: Home = None, config_file: Config = None, as_json: AsJson = False) -> None:
    """Hash every byte again. Exit 5: a file is damaged, and the output has the file and the remedy."""
    store, wrong = _store(home, config_file), 0
    show = Terminal(Console(stderr=True))
    for digest in store.digests():
        problem = asyncio.run(_verify(store, digest, show))
        wrong += problem is not None
        if as_json:
            typer.echo(orjson.dumps({"digest": digest, "ok": problem is None, "problem": problem}).decode())
        else:
            typer.echo(
                f"{'ok   ' if problem is None else 'wrong'} {digest}{f'  {problem}' if problem else ''}"
            )
    show.close()
    if wrong:
        raise typer.Exit(RegistryError.exit_code)


@command.command()
def remove(digest: str, home: Home = None, config_file: Config = None) -> None:
    """Delete an unused artifact."""
    if not asyncio.run(_store(home, config_file).remove(digest)):
        raise RegistryError(
            "artifact_in_use",
            f"{digest} is in use, or not on this disk",
            "stop the endpoint that uses the artifact",
        )


async def _verify(store: WeightsStore, digest: str, show: Terminal) -> str | None:
    try:
        await store.verify(digest, teller(show, digest[:19]))
    except RegistryError as error:
        return str(error)
    return None


def _store(home: Path | None, config_file: Path | None) -> WeightsStore:
    settings, _ = config.load({"home": home}, config_file)
    return WeightsStore(weights_settings(settings))
