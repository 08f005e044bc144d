"""Command options: declares the options that most commands share, and the group with `ls` as its default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

Home = Annotated[Path | None, typer.Option(help="Directory of the node's state.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


class Listing(TyperGroup):
    """A group of commands with `ls` as its default: the group without a command, with or without options, is `ls`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["ls", *args]
        return super().parse_args(ctx, args)
