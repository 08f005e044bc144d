"""Command `pareta-agent pull TASK[/ALIAS]`: fetches and verifies the weights of an alias before a cold start."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from pareta_agent import config
from pareta_agent.catalog.source import find, read_catalog, trusts_code
from pareta_agent.cli.options import AsJson, Config, Home
from pareta_agent.cli.views.terminal import Terminal
from pareta_agent.clock import SystemClock
from pareta_agent.errors import ConfigError, NothingFits
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.node.identity import prepare
from pareta_agent.node.settings_map import catalog_place, weights_settings
from pareta_agent.planning.choose import plan
from pareta_agent.planning.request import for_resolution
from pareta_agent.telemetry.events import Phase
from pareta_agent.weights.settings import OnProgress, WeightsProgress
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Artifact, Variant
from pareta_registry.resolve import Resolution


def command(
    task: Annotated[str, typer.Argument(help="TASK or TASK/ALIAS. Without an alias: `recommended`.")],
    variant: Annotated[
        str | None, typer.Option(help="Name of a variant. Unset: the planned variant.")
    ] = None,
    home: Home = None,
    config_file: Config = None,
    catalog: Annotated[str | None, typer.Option(help="Directory or address of the catalog.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch and verify a task's weights ahead of time. Complete files are not fetched again."""
    settings, _ = config.load({"home": home, "registry.catalog": catalog}, config_file)
    name, _, alias = task.partition("/")
    resolution = find(asyncio.run(read_catalog(catalog_place(settings), SystemClock())), name, alias or None)
    code = trusts_code(resolution, settings.registry.trust_remote_code)
    chosen = _variant(resolution, variant)
    prepare(settings.home)
    show = Terminal(Console(stderr=True))
    try:
        store = WeightsStore(weights_settings(settings))
        wanted = (chosen, resolution.adapter) if resolution.adapter else (chosen,)
        path, *adapter = asyncio.run(_fetch(store, wanted, teller(show, resolution.alias.id), code))
    finally:
        show.close()
    fields = {"task": name, "alias": resolution.alias.id, "variant": chosen.name, "path": str(path)}
    if adapter:
        fields["adapter_path"] = str(adapter[0])
    typer.echo(orjson.dumps(fields).decode() if as_json else str(path))


async def _fetch(store: WeightsStore, wanted: Sequence[Artifact], tell: OnProgress, code: bool) -> list[Path]:
    return [await store.fetch(artifact, tell, code=code) for artifact in wanted]


def teller(show: Terminal, label: str) -> OnProgress:
    """Prints the phases of a transfer under `label`."""
    phase = ""

    def reported(step: WeightsProgress) -> None:
        nonlocal phase
        if step.phase != phase:
            if phase:
                show(Phase(label, phase, "done"))
            phase = step.phase
            show(Phase(label, phase, "started"))
        show(Phase(label, phase, "progress", None, step.done_bytes, step.total_bytes))

    return reported


def _variant(resolution: Resolution, name: str | None) -> Variant:
    """The named variant, or the planned variant of this node. Raises ConfigError, NothingFits."""
    variants = {variant.name: variant for variant in resolution.model.variants}
    if name is not None:
        if name not in variants:
            raise ConfigError(
                "variant_unknown", f"no variant is named {name!r}", f"pass one of {', '.join(variants)}"
            )
        return variants[name]
    request = for_resolution(resolution)
    report = plan(resolution.model.architecture, resolution.model.variants, read_inventory(), request)
    if report.best is None:
        raise NothingFits(
            "nothing_fits",
            "no variant runs on this node",
            "pass --variant, or see the rejections of `pareta-agent plan`",
        )
    return variants[report.best.variant]
