"""Options that most commands share, and the group whose bare form lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

Home = Annotated[Path | None, typer.Option(help="Where the node keeps everything.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]


class Listing(TyperGroup):
    """Commands of which `ls` needs no name: the group alone, or with options alone, is `ls`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["ls", *args]
        return super().parse_args(ctx, args)
