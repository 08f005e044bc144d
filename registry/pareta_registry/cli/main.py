"""Command line of the registry: reads and checks catalogs, makes and publishes artifacts.

Data goes to stdout, messages to stderr. Weights ids and sources are printed only with `--private`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from pareta_registry import output
from pareta_registry.catalog import Catalog
from pareta_registry.cli import publish
from pareta_registry.errors import CatalogError, RegistryFailure, unreadable
from pareta_registry.load import builtin_catalog, load_catalog
from pareta_registry.resolve import Resolution, Unresolved, resolve

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)

publish.register(app)

CatalogOption = Annotated[
    Path | None,
    typer.Option("--catalog", "-c", help="Catalog file or directory (default: the demo catalog)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PrivateOption = Annotated[bool, typer.Option("--private", help="Include model ids, digests and sources.")]


def main() -> None:
    """Console script. Exit codes:

    0  done
    2  wrong usage
    3  unknown task or alias
    4  standard output not writable
    5  invalid catalog or artifact
    """
    output.install()
    try:
        app()
    except RegistryFailure as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(5)
    except output.ReaderLeft:
        sys.exit(0)
    except output.OutputLost as lost:
        print(f"error: {lost} ({lost.CODE})\n  try: {lost.REMEDY}", file=sys.stderr)  # noqa: T201
        sys.exit(4)
    except OSError as error:
        print(f"error: {unreadable(error.filename or 'a file', error)}", file=sys.stderr)  # noqa: T201
        sys.exit(5)


@app.command("ls")
def list_tasks(
    catalog: CatalogOption = None, as_json: JsonOption = False, private: PrivateOption = False
) -> None:
    """List the tasks and aliases, best rank first."""
    found = _catalog(catalog)
    rows = [
        {
            "task": task.id,
            "alias": alias.id,
            "rank": rank,
            "recommended": alias.id == task.recommended,
            "title": task.title,
            **({"model": alias.model, "adapter": alias.adapter or ""} if private else {}),
        }
        for task in found.tasks
        for rank, alias in enumerate(task.aliases, 1)
    ]
    if as_json:
        _emit({"catalog": found.digest, "aliases": rows})
        return
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(
            *(("yes" if value else "") if isinstance(value, bool) else str(value) for value in row.values())
        )
    Console().print(table)


@app.command("resolve")
def resolve_alias(
    task: str,
    alias: Annotated[str | None, typer.Argument(help="Default: the task's recommended alias.")] = None,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
    private: PrivateOption = False,
) -> None:
    """Show the model settings of a task and an alias."""
    answer = resolve(_catalog(catalog), task, alias)
    if isinstance(answer, Unresolved):
        print(f"error: {answer.message}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(3)
    fields = _resolution(answer, private)
    if as_json:
        _emit(fields)
        return
    for name, value in fields.items():
        print(f"{name:16}{value if isinstance(value, str | int) else orjson.dumps(value).decode()}")  # noqa: T201


@app.command()
def check(path: Path, as_json: JsonOption = False) -> None:
    """Check the documents in PATH: every problem with file, line and key."""
    try:
        found = load_catalog(path)
    except CatalogError as error:
        if not as_json:
            raise
        names = ("file", "line", "key", "message", "remedy")
        _emit({"ok": False, "problems": [{n: getattr(p, n) for n in names} for p in error.problems]})
        raise typer.Exit(5) from None
    if as_json:
        _emit({"ok": True, "catalog": found.digest, "tasks": len(found.tasks), "models": len(found.models)})
    else:
        print(f"{len(found.tasks)} tasks, {len(found.models)} models, {found.digest}")  # noqa: T201


def _catalog(path: Path | None) -> Catalog:
    return builtin_catalog() if path is None else load_catalog(path)


def _resolution(answer: Resolution, private: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "task": answer.task.id,
        "alias": answer.alias.id,
        "recommended": answer.alias.id == answer.task.recommended,
        "title": answer.task.title,
        "max_model_len": answer.max_model_len,
        "engine": dict(answer.engine),
        "license": answer.model.license,
        "variants": [variant.name for variant in answer.model.variants],
    }
    if answer.adapter is not None:
        fields["adapter"] = f"LoRA, rank {answer.adapter.rank}"
    if private:
        fields["model"] = answer.model.model_dump(mode="json", exclude_defaults=True)
        fields["adapter_name"] = answer.adapter.name if answer.adapter else ""
    return fields


def _emit(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")
