"""Command `pareta-agent plan TASK[/ALIAS]`: prints the plan of an endpoint with its arithmetic, without a start."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pareta_agent import config
from pareta_agent.catalog.source import find, read_catalog
from pareta_agent.cli.options import AsJson, Config, Home
from pareta_agent.cli.views.console import for_data
from pareta_agent.cli.views.plan_view import render
from pareta_agent.clock import SystemClock
from pareta_agent.config import Settings
from pareta_agent.errors import ConfigError, HostError, NothingFits
from pareta_agent.hardware.inventory import Inventory, from_json
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.node.deployment.start_recovery import MEASURED, measured_at
from pareta_agent.node.engine_interpreter import EngineProgram
from pareta_agent.node.settings_map import catalog_place
from pareta_agent.node.status.admin_socket import ask
from pareta_agent.planning.changes import PlanChange
from pareta_agent.planning.changes import diff as compare
from pareta_agent.planning.nearest import plan_or_nearest
from pareta_agent.planning.plan import Objective, PlanReport
from pareta_agent.planning.request import PlanRequest, for_resolution
from pareta_agent.planning.support.numerics import Numerics
from pareta_registry.resolve import Resolution


def command(
    task: Annotated[str, typer.Argument(help="TASK or TASK/ALIAS. Without an alias: `recommended`.")],
    objective: Annotated[
        str | None, typer.Option(help="balanced, latency or throughput. Unset: the setting `objective`.")
    ] = None,
    inventory: Annotated[
        Path | None,
        typer.Option(help="Plan for the hardware in this file (from `inventory --json`)."),
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option(help="Required context length in tokens. A shorter plan is rejected.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Exact number of replicas. Unset: as many as fit.")
    ] = None,
    catalog: Annotated[str | None, typer.Option(help="Directory or address of the catalog.")] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Compare with the plans of the running node.")] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Print the model and its artifacts, too.")
    ] = False,
    home: Home = None,
    config_file: Config = None,
    as_json: AsJson = False,
) -> None:
    """Print the best plan for a task's model on this node, the runners-up, and each rejection with its arithmetic."""
    settings, _ = config.load(
        {"home": home, "objective": objective, "registry.catalog": catalog}, config_file
    )
    name, _, alias = task.partition("/")
    resolution = find(asyncio.run(read_catalog(catalog_place(settings), SystemClock())), name, alias or None)
    node = read_inventory() if inventory is None else load_inventory(inventory)
    aim: Objective = settings.objective
    request = replace(
        for_resolution(resolution, objective=aim, replicas=replicas),
        max_model_len=max_model_len or settings.max_model_len,
    )
    report = _report(settings, resolution, node, request, own=inventory is None)
    title = f"{resolution.task.id}/{resolution.alias.id}"
    changes = _changes(settings, resolution, report) if diff else None
    if as_json:
        typer.echo(json.dumps(_document(report, resolution, request, changes, private), indent=2))
    else:
        model = f"model {resolution.model.id}" if private else None
        for part in (render(report, title, changes), _sharing(resolution, request), model):
            if part is not None:
                for_data().print(part, highlight=False)
    if not report.candidates:
        raise typer.Exit(NothingFits.exit_code)


def load_inventory(path: Path) -> Inventory:
    """The inventory in a file. Raises ConfigError for an unreadable or invalid file."""
    try:
        return from_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            "inventory_unreadable",
            f"{path}: {error.strerror}",
            "write the file with `pareta-agent inventory --json`",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            "inventory_invalid",
            f"{path}: {where}: {first['msg']}",
            "write the file with `pareta-agent inventory --json`",
        ) from error


def _report(
    settings: Settings, resolution: Resolution, node: Inventory, request: PlanRequest, *, own: bool
) -> PlanReport:
    """The report of the node's planner, with the engine's probed support and the measurements of earlier starts.

    The kernel check holds for this host only, so a plan for other hardware (not `own`) does not use the check.
    """
    engine = EngineProgram(settings, node, lambda _event: None)
    numerics = engine.numerics if own else Numerics()
    return plan_or_nearest(
        resolution.model.architecture,
        resolution.model.variants,
        node,
        request,
        support=engine.support,
        measured=measured_at(settings.home / MEASURED, engine.version, numerics),
    )


def _changes(settings: Settings, resolution: Resolution, report: PlanReport) -> dict[str, list[PlanChange]]:
    """The changes of the plan, by endpoint of the running node with this task and alias.

    Raises HostError if no node runs.
    """
    status = asyncio.run(ask(config.run_dir(settings.home) / "agent.sock", "GET", "/status"))
    if status is None:
        raise HostError(
            "no_node", f"no node runs under {settings.home}", "start the node with `pareta-agent serve`"
        )
    name = (resolution.task.id, resolution.alias.id)
    running = {
        entry["id"]: entry["plan"]
        for entry in status["endpoints"]
        if (entry["task"], entry["alias"]) == name and entry.get("plan")
    }
    if report.best is None:
        return {}
    return {endpoint: list(compare(plan, report.best)) for endpoint, plan in running.items()}


def _sharing(resolution: Resolution, request: PlanRequest) -> str | None:
    """For a model with adapters: the shared base engine, and this alias's part of it."""
    if (adapter_space := request.adapters) is None:
        return None
    own = (
        f"a LoRA adapter of rank {resolution.adapter.rank}"
        if resolution.adapter
        else "the base's own weights"
    )
    return (
        f"shared  {own}, on a base that all endpoints of its model share; weights include "
        f"room for {adapter_space.at_once} adapters at once, of rank {adapter_space.rank} at most"
    )


def _document(
    report: PlanReport,
    resolution: Resolution,
    request: PlanRequest,
    changes: dict[str, list[PlanChange]] | None,
    private: bool,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "task": resolution.task.id,
        "alias": resolution.alias.id,
        "verdict": report.verdict,
        **asdict(report),
    }
    if changes is not None:
        document["diff"] = {endpoint: [asdict(one) for one in found] for endpoint, found in changes.items()}
    if request.adapters is not None:
        rank = resolution.adapter.rank if resolution.adapter else None
        document["sharing"] = {"adapter_rank": rank, **asdict(request.adapters)}
    if private:
        artifacts = {variant.name: variant.artifact for variant in resolution.model.variants}
        document["private"] = {"model": resolution.model.id, "artifacts": artifacts}
    return document
