"""Reference pages: tables of settings, errors, metrics and commands, from the code and `docs/reference/errors.toml`.

`tests/docs.py` writes the tables into the pages.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from pareta_agent import cli, config
from pareta_agent.config import Settings
from pareta_agent.contract.api_errors import CATALOGUE
from pareta_agent.gateway.upstream.engine_metrics import EXPORTED
from pareta_agent.telemetry.series import TABLE
from pareta_registry.cli import main as registry_cli

ACTIONS = Path(__file__).parents[1] / "docs" / "reference" / "errors.toml"
RETRY = {"no": "no", "yes": "yes", "later": "after `retry-after`", "depends": "as `x-should-retry` says"}
UNITS = {
    "_s": "seconds",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_ratio": "0 to 1",
    "_tokens": "tokens",
    "_usd": "USD",
    "_celsius": "°C",
    "_watts": "watts",
    "_events": "events",
    "_sequence": "sequence number",
}
COUNTED = {
    "port": "port number",
    "max_model_len": "tokens",
    "engine.threads": "threads",
    "engine.restart_budget": "failures",
    "engine.standby": "processes",
    "front.workers": "processes",
    "front.max_connections": "connections",
    "front.max_connections_per_address": "connections",
    "front.max_requests_per_key": "requests",
    "front.max_requests_per_seat": "requests",
    "front.queue_per_endpoint": "requests",
    "front.queue_per_org": "requests",
}
GAUGED = {
    "pareta_requests_in_flight": "requests",
    "pareta_requests_held": "requests",
    "pareta_keys_mostly_partial": "keys",
    "pareta_front_connections": "connections",
    "pareta_front_workers": "processes",
    "pareta_endpoint_replicas": "replicas",
    "pareta_spool_open_requests": "requests",
    "pareta_catalog_serial": "serial number",
    "pareta_prefetch_aliases": "aliases",
    "pareta_gpu_ecc_uncorrected": "errors",
    "pareta_plan_candidates": "plans",
    "pareta_plan_rejections": "plans",
    "pareta_tls_expires_timestamp_seconds": "Unix time, seconds",
}
COMPUTED = {"node": "the host's name"}
FLAGS = {
    "pareta_build_info",
    "pareta_ready",
    "pareta_endpoint_state",
    "pareta_metering",
    "pareta_plane_up",
    "pareta_catalog_refused",
    "pareta_gpu_fenced",
    "pareta_plan_workaround",
}


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def settings() -> str:
    """One row a setting: key, environment name, type, unit, default, meaning."""
    rows = [
        (f"`{key}`", f"`{env}`", kind, _setting_unit(key, kind), f"`{default}`", meaning)
        for (key, env, default, meaning), kind in zip(config.setting_rows(), _types(), strict=True)
    ]
    return table(("Key", "Environment", "Type", "Unit", "Default", "Meaning"), rows)


def errors() -> str:
    """One row an error code; a code without an action in `errors.toml` is a KeyError."""
    actions = tomllib.loads(ACTIONS.read_text())
    if unknown := actions.keys() - CATALOGUE.keys():
        raise KeyError(f"{ACTIONS.name} has codes that the catalogue lacks: {sorted(unknown)}")
    rows = [
        (f"`{code}`", str(status), f"`{kind}`", RETRY[actions[code]["retry"]], meaning, actions[code]["do"])
        for code, (status, kind, meaning) in sorted(CATALOGUE.items(), key=lambda item: (item[1][0], item[0]))
    ]
    return table(("Code", "Status", "Type", "Retry", "Meaning", "Action"), rows)


def metrics() -> str:
    """One row a series of the agent."""
    rows = [(f"`{s.name}`", s.kind, _code(s.labels), _metric_unit(s.name, s.kind), s.meaning) for s in TABLE]
    return table(("Series", "Type", "Labels", "Unit", "Meaning"), rows)


def buckets() -> str:
    """One row a histogram of the agent."""
    rows = [(f"`{s.name}`", ", ".join(f"{bound:g}" for bound in s.buckets)) for s in TABLE if s.buckets]
    return table(("Histogram", "Upper bounds, seconds"), rows)


def engine_metrics() -> str:
    """One row a series of the engine that the node exports."""
    rows = [
        (f"`pareta_engine_{name}`", f"`{source}`", kind, _metric_unit(f"pareta_engine_{name}", kind), said)
        for source, (name, kind, said) in EXPORTED.items()
    ]
    return table(("Series", "Engine's name", "Type", "Unit", "Meaning"), rows)


def overview() -> str:
    """One row a command of either program, without the commands below."""
    rows = [
        (f"`{program} {name}`", _help(command))
        for program, app in (("pareta-agent", cli.app), ("pareta-registry", registry_cli.app))
        for name, command in _below(get_command(app), typer.Context(get_command(app)))
    ]
    return table(("Command", "Purpose"), rows)


def agent_commands() -> str:
    """Every command of `pareta-agent`, with its arguments and options."""
    return "\n\n".join(_commands(get_command(cli.app), "pareta-agent", None))


def registry_commands() -> str:
    """Every command of `pareta-registry`, with its arguments and options."""
    return "\n\n".join(_commands(get_command(registry_cli.app), "pareta-registry", None))


def _types() -> Iterator[str]:
    """The type of each setting, in the order of `setting_rows`, from the schema of the settings."""
    schema = Settings.model_json_schema()
    for key, found in schema["properties"].items():
        reference = found.get("$ref", "")
        if key != "endpoints" and reference:
            section = schema["$defs"][reference.rpartition("/")[2]]
            yield from (_type(each) for each in section["properties"].values())
        else:
            yield _type(found)


def _type(schema: dict[str, Any]) -> str:
    if options := [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]:
        return _type(options[0])
    if choices := schema.get("enum"):
        return " ".join(f"`{choice}`" for choice in choices)
    kind = str(schema["type"])
    if kind == "array":
        return "list of tables" if "$ref" in schema["items"] else "list"
    if kind == "string":
        return "path" if schema.get("format") == "path" else "text"
    return {"boolean": "`on` `off`"}.get(kind, f"{kind}{_bounds(schema)}")


def _bounds(schema: dict[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}
    found = [f"{sign} {schema[word]:.15g}" for word, sign in words.items() if word in schema]
    return "".join(f", {bound}" for bound in found)


def _setting_unit(key: str, kind: str) -> str:
    if key in COUNTED:
        return COUNTED[key]
    unit = _suffix_unit(key)
    if unit is None and kind.startswith(("integer", "number")):
        raise KeyError(f"{key} is a number without a unit: add it to COUNTED in {__file__}")
    return unit or ""


def _metric_unit(name: str, kind: str) -> str:
    if name in GAUGED or name in FLAGS:
        return GAUGED.get(name, "0 or 1")
    if kind == "counter":
        return _counted(name)
    unit = _suffix_unit(name)
    if unit is None and name.startswith("pareta_engine_requests"):
        unit = "requests"
    if unit is None:
        raise KeyError(f"{name} has no unit: add it to GAUGED or FLAGS in {__file__}")
    return unit


def _counted(name: str) -> str:
    """The noun that a counter counts, from its name."""
    known = {"queries": "tokens", "hits": "tokens", "starts": "engine starts", "exits": "engine exits"}
    known |= {"http": "connections", "xid": "XID events", "lines": "lines", "finished": "requests"}
    known |= {"quarantined": "requests"}
    noun = name.removesuffix("_total").rpartition("_")[2]
    return known.get(noun, noun)


def _suffix_unit(name: str) -> str | None:
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), None)


def _code(words: tuple[str, ...]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _commands(command: Any, path: str, parent: typer.Context | None) -> Iterator[str]:
    """The sections of a command and of the commands below it, in the order of its help."""
    context = typer.Context(command, info_name=path, parent=parent)
    if command.hidden:
        return
    if not (below := _below(command, context)):
        yield f"### {path}"
        yield _help(command)
        if rows := [_parameter(each) for each in command.params if not getattr(each, "hidden", False)]:
            yield table(("Argument or option", "Value", "Default", "Meaning"), rows)
        return
    for name, each in below:
        yield from _commands(each, f"{path} {name}", context)


def _below(command: Any, context: typer.Context) -> list[tuple[str, Any]]:
    """The commands of a group; none of a command."""
    names = command.list_commands(context) if hasattr(command, "list_commands") else ()
    return [(name, command.get_command(context, name)) for name in names]


def _help(command: Any) -> str:
    return " ".join((command.help or "").split())


def _parameter(found: Any) -> tuple[str, str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*found.opts, *found.secondary_opts))
    if not found.opts[0].startswith("-"):
        names = f"`{(found.metavar or found.name).upper()}`"
    return names, _value(found), _default(found), " ".join((found.help or "").split()).replace("|", "\\|")


def _value(found: Any) -> str:
    if getattr(found, "is_flag", False):
        return ""
    annotation = found.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _code(tuple(str(choice.value) for choice in annotation))
    words = {"Path": "path", "str": "text", "int": "integer", "float": "number", "bool": "flag"}
    kind = words.get(getattr(annotation, "__name__", ""), "text")
    return f"{kind}, repeatable" if found.multiple or found.nargs == -1 else kind


def _default(found: Any) -> str:
    if found.required:
        return "required"
    if found.name in COMPUTED:
        return COMPUTED[found.name]
    if found.default in (None, False, (), []) or callable(found.default):
        return ""
    return f"`{found.default}`"
