"""Command `pareta-agent inventory`: prints the hardware of this node, as text or as JSON for planning commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pareta_agent.cli.views.console import for_data
from pareta_agent.hardware.inventory import GIB, Gpu, Inventory, to_json
from pareta_agent.hardware.islands import islands
from pareta_agent.hardware.nvml import read_inventory


def command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for `--inventory FILE` of planning commands.")
    ] = False,
) -> None:
    """Print GPUs with memory, links and health, the driver, and the host's cores and memory."""
    inventory = read_inventory()
    if as_json:
        typer.echo(to_json(inventory).decode())
        return
    console = for_data()
    for line in _host(inventory):
        console.print(line, highlight=False)
    if inventory.gpus:
        console.print(_gpus(inventory), highlight=False)


def _host(inventory: Inventory) -> Iterator[str]:
    memory = f"{_gib(inventory.memory_bytes)} of memory, {_gib(inventory.memory_available_bytes)} available"
    yield f"host    {inventory.cpu_cores or '?'} cores, {memory}"
    if inventory.driver:
        cuda = inventory.cuda_driver
        version = "?" if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"
        yield f"driver  {inventory.driver}, CUDA {version}"
    if inventory.unified_memory:
        yield "memory  shared by GPU and host"
    if not inventory.gpus:
        yield f"GPUs    none: {escape(inventory.nvml_error or 'NVML lists no device')}"


def _gpus(inventory: Inventory) -> Table:
    table = Table("GPU", "name", "cc", "free / total", "island", "NUMA", "state", box=None, pad_edge=False)
    numbers = {gpu.uuid: number for number, group in enumerate(islands(inventory.gpus)) for gpu in group}
    for gpu in inventory.gpus:
        capability = "?" if gpu.compute_capability is None else "{}.{}".format(*gpu.compute_capability)
        table.add_row(
            gpu.uuid,
            gpu.name or "?",
            capability,
            f"{_gib(gpu.memory_free_bytes)} / {_gib(gpu.usable_bytes)}",
            str(numbers[gpu.uuid]),
            "?" if gpu.numa_node is None else str(gpu.numa_node),
            _state(gpu),
        )
    return table


def _state(gpu: Gpu) -> str:
    if gpu.fault is not None:
        return f"[bold red]{gpu.fault}[/]"
    if gpu.mig_enabled:
        return "split into MIG instances"
    if gpu.processes:
        return f"{len(gpu.processes)} processes"
    return "ok"


def _gib(size: int | None) -> str:
    return "?" if size is None else f"{size / GIB:.1f} GiB"
