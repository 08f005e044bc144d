"""Command line: registers the operator's commands, one module each, and maps errors to exit codes.

Data goes to standard output, messages to standard error.
"""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pareta_agent import __version__
from pareta_agent.errors import AgentError, HostError
from pareta_registry import output

COMMANDS = (
    "serve",
    "status",
    "plan",
    "pull",
    "weights",
    "doctor",
    "inventory",
    "usage",
    "keys",
    "org",
    "spool",
    "engine",
    "plane",
)


class Lazy(TyperGroup):
    """Commands by module, each imported at its call, so that `status` does not wait for the imports of `serve`.

    `command` in a module is a function, or a Typer app with subcommands.
    """

    def list_commands(self, _ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(COMMANDS)

    def get_command(self, _ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(f"pareta_agent.cli.{cmd_name}").command
        app = found
        if not isinstance(found, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command()(found)
        command = typer.main.get_command(app)
        command.name = cmd_name
        if not gc.isenabled():  # `__main__` disabled the collector for the imports
            gc.freeze()
            gc.enable()
        return command


app = typer.Typer(cls=Lazy, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pareta-agent {__version__}")
        raise typer.Exit


@app.callback()
def pareta_agent(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Node agent of Pareta: resolves a task to open weights, plans, runs vLLM behind its gateway, meters every call."""


def main() -> None:
    """Entry point of the script `pareta-agent`. Exit codes: those of `errors.py`, and 130 after Ctrl-C."""
    output.install()
    try:
        app()
    except AgentError as error:
        sys.exit(_failed(error))
    except output.ReaderLeft:
        sys.exit(0)
    except output.OutputLost as lost:
        sys.exit(_failed(HostError(lost.CODE, str(lost), lost.REMEDY)))
    except OSError as error:
        sys.exit(_failed(_of_host(error)))


def _failed(error: AgentError) -> int:
    typer.echo(f"error: {error}", err=True)
    return error.exit_code


def _of_host(error: OSError) -> HostError:
    """An OSError that no command translates."""
    place = f"{error.filename}: " if error.filename else ""
    return HostError(
        "host_refused", f"{place}{error.strerror or error}", "repair the file or directory, or move it away"
    )
