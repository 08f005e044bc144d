"""The inventory as a value: JSON there and back, faults, what torch would see."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planner_values import gpus, node
from pydantic import ValidationError

from pareta_agent.hardware.inventory import GIB, Gpu, GpuProcess, Health, Inventory, Mig, from_json, to_json


def test_json_gives_back_the_same_value() -> None:
    """Every field survives, also those that the driver did not support."""
    rich = replace(
        gpus(2)[0],
        memory_reserved_bytes=GIB,
        mig=Mig("GPU-parent", "3g.40gb"),
        processes=(GpuProcess(4711, None), GpuProcess(1, 2 * GIB)),
        health=Health(ecc_enabled=True, xid=79, recovery_action="gpu_reset"),
    )
    inventory = node(
        (rich, Gpu("bare")), driver="580.1", cuda_driver=13000, unified_memory=True, nvml_error="half"
    )
    assert inventory == from_json(to_json(inventory))


def test_a_file_with_an_unknown_key_is_refused_by_name() -> None:
    """A typing error in an inventory file must not silently plan for something else."""
    with pytest.raises(ValidationError, match="gpuss"):
        from_json(b'{"gpuss": []}')


@pytest.mark.parametrize("again", ["GPU-0", "gpu-0"])
def test_a_gpu_that_is_listed_twice_is_refused(again: str) -> None:
    """A plan would place two engines on it; a MIG instance counts as a GPU of its own."""
    twice = (Gpu("GPU-0"), Gpu("MIG-0", mig=Mig("GPU-0")), Gpu(again))
    with pytest.raises(ValidationError, match=f"gpus\n.*the GPU {again} is listed twice"):
        from_json(to_json(Inventory(gpus=twice)))


@pytest.mark.parametrize(
    ("health", "fault"),
    [
        (Health(lost=True), "fell off the bus"),
        (Health(remapped_rows_failure=True), "row remapping failed"),
        (Health(remapped_rows_pending=True), "row remapping pends a reset"),
        (Health(retired_pages_pending=True), "page retirement pends a reset"),
        (Health(recovery_action="node_reboot"), "the driver requires node_reboot"),
        (Health(xid=79), "fatal XID 79"),
        (Health(recovery_action="none", ecc_uncorrected=3, remapped_rows_pending=False), None),
        (Health(), None),
    ],
)
def test_faults_that_keep_a_gpu_from_use(health: Health, fault: str | None) -> None:
    """What needs a reset fences; what is not supported, or was corrected, does not."""
    assert fault == Gpu("GPU-0", health=health).fault


def test_a_prohibited_compute_mode_is_a_fault() -> None:
    """CUDA refuses every context there."""
    assert Gpu("GPU-0", compute_mode="prohibited").fault == "compute mode is prohibited"


def test_usable_memory_is_what_torch_reports() -> None:
    """Total minus the driver's reservation, None when the total is unknown."""
    assert Gpu("a", memory_total_bytes=80 * GIB, memory_reserved_bytes=GIB).usable_bytes == 79 * GIB
    assert Gpu("a").usable_bytes is None


def test_gpus_can_be_taken_away() -> None:
    """Another endpoint's GPUs are no places for this one."""
    assert [gpu.uuid for gpu in node(gpus(2)).without(frozenset({"GPU-0"})).gpus] == ["GPU-1"]
    assert Inventory() == Inventory().without(frozenset({"GPU-0"}))
