"""Public contract: what operators, scrapers, planes and clients depend on, as plain values from the code.

`python tests/public_contract.py` writes `tests/data/public_contract.json`. The file began as the lists of 0.1, and a
difference is a change that its release must announce.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from pareta_agent import cli
from pareta_agent.contract.api_errors import CATALOGUE
from pareta_agent.gateway.upstream.engine_metrics import EXPORTED
from pareta_agent.settings import Settings
from pareta_agent.telemetry.series import TABLE
from pareta_registry.cli import main as registry_cli

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "tests" / "data" / "public_contract.json"
_OPENAPI = {
    "inference": "gateway/api/openapi.json",
    "nodes": "plane/openapi.json",
    "public": "plane/public_openapi.json",
}


@cache
def contract() -> dict[str, Any]:
    return {
        "settings": _settings(),
        "metrics": _metrics(),
        "errors": _errors(),
        "events": _events(),
        "commands": _commands(),
        "apis": {name: _api(path) for name, path in _OPENAPI.items()},
    }


def _settings() -> Any:
    """The JSON schema without its texts: keys, types, bounds, defaults."""
    return _bare(Settings.model_json_schema())


def _metrics() -> dict[str, Any]:
    own = {series.name: [series.kind, list(series.labels)] for series in TABLE}
    return {**own, **{name: ["engine", []] for name in EXPORTED}}


def _errors() -> dict[str, Any]:
    return {code: repr(kind) for code, kind in CATALOGUE.items()}


def _events() -> dict[str, list[str]]:
    """Names with the fields that stand as literals beside them."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "agent").rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "pareta_agent.telemetry.events"
            for alias in node.names
            if alias.name == "Event"
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names):
                continue
            if not (node.args and isinstance(node.args[0], ast.Constant)):
                continue
            fields = found.setdefault(node.args[0].value, set())
            for argument in [*node.args[1:], *(keyword.value for keyword in node.keywords)]:
                if isinstance(argument, ast.Dict):
                    fields |= {key.value for key in argument.keys if isinstance(key, ast.Constant)}
    return {name: sorted(fields) for name, fields in sorted(found.items())}


def _commands() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}

    def visit(command: Any, path: str) -> None:
        found[path] = sorted(
            option for each in command.params for option in (*each.opts, *each.secondary_opts)
        )
        context = typer.Context(command)
        for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
            visit(command.get_command(context, name), f"{path} {name}")

    visit(get_command(cli.app), "pareta-agent")
    visit(get_command(registry_cli.app), "pareta-registry")
    return found


def _api(path: str) -> Any:
    """An OpenAPI document without the texts that people read."""
    document = json.loads((ROOT / "agent" / "pareta_agent" / path).read_text())
    return _bare({key: document[key] for key in ("paths", "components") if key in document})


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        texts = ("description", "title", "summary", "operationId")
        return {
            key: _bare(each) for key, each in value.items() if not (key in texts and isinstance(each, str))
        }
    return [_bare(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    COMMITTED.write_text(json.dumps(contract(), indent=1, sort_keys=True) + "\n")
