"""Faults that fence a GPU, and those that only end a process."""

from __future__ import annotations

from dataclasses import replace

from planner_values import gpus, node

from pareta_agent.hardware.inventory import Mig
from pareta_agent.hardware.sample import GpuFault, fenced


def test_a_fatal_xid_fences_its_gpu_alone() -> None:
    """XID 79 (fell off the bus) marks one GPU; its neighbours serve on."""
    marked = fenced(node(gpus(2)), [GpuFault("GPU-1", 79)])
    assert [gpu.fault for gpu in marked.gpus] == [None, "fatal XID 79"]


def test_an_applications_own_fault_fences_nothing() -> None:
    """XID 31 and 43 end a process; the GPU is sound."""
    assert [
        gpu.fault for gpu in fenced(node(gpus(1)), [GpuFault("GPU-0", 31), GpuFault("GPU-0", 43)]).gpus
    ] == [None]


def test_a_parents_fault_fences_its_instances() -> None:
    """A MIG instance lives on the faulty chip."""
    instance = replace(gpus(1)[0], uuid="MIG-1", mig=Mig("GPU-parent"))
    assert fenced(node((instance,)), [GpuFault("GPU-parent", 48)]).gpus[0].fault == "fatal XID 48"
