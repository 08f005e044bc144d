"""The true NVML binding against a compiled stand-in for the driver's library, fed by inventories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.driver import COMPILER, STUB, needs_compiler
from planner_values import gpus, node

from pareta_agent.hardware.inventory import GIB, Gpu, GpuProcess, Health, Inventory, Mig, from_json

pytestmark = needs_compiler

READER = """
import json, os, sys, threading
from pareta_agent.hardware.inventory import to_json
from pareta_agent.hardware.nvml import read_inventory, read_samples, follow_faults
for line in sys.stdin:
    os.environ["NVML_STUB"], deadline_s, fault_s = line.split()
    inventory = read_inventory(float(deadline_s))
    whole = inventory.nvml_error is None
    faults, stopped = [], threading.Event()
    def told(fault):
        faults.append(fault)
        stopped.set()
    following = threading.Thread(target=follow_faults, args=(told, stopped, 0.005))
    if whole:
        following.start()
        stopped.wait(float(fault_s))
        stopped.set()
        following.join()
    fault = faults[0] if faults else None
    samples = read_samples() if whole else ()
    print(json.dumps({
        "inventory": json.loads(to_json(inventory)),
        "samples": [[s.uuid, s.busy_ratio, s.temperature_celsius, s.power_milliwatts, s.lost] for s in samples],
        "fault": None if fault is None else [fault.uuid, fault.xid],
    }), flush=True)
"""
MODES = {"default": 0, "prohibited": 2, "exclusive_process": 3}
ACTIONS = {"none": 0, "gpu_reset": 1, "node_reboot": 2, "drain_p2p": 3, "drain_and_reset": 4}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Folders with the stub as `libnvidia-ml.so.1`: of a present driver, and of an old one."""
    built = {}
    for old in (False, True):
        folder = tmp_path_factory.mktemp("nvml")
        command = [
            str(COMPILER),
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            "-o",
            str(folder / "libnvidia-ml.so.1"),
            str(STUB),
        ]
        subprocess.run([*command, *(["-DOLD_DRIVER"] if old else [])], check=True, timeout=120)
        built[old] = folder
    return built


def lines(inventory: Inventory, more: dict[str, object]) -> str:
    """An inventory in the stub's words; a field that is None is left out, and so not supported."""
    index = {gpu.uuid: number for number, gpu in enumerate(inventory.gpus)}
    said: dict[str, object] = {"driver": inventory.driver, "cuda": inventory.cuda_driver}
    for gpu in inventory.gpus:
        health = gpu.health
        fields = {
            "uuid": gpu.uuid,
            "name": gpu.name,
            "capability": gpu.compute_capability and ".".join(map(str, gpu.compute_capability)),
            "total": gpu.memory_total_bytes,
            "reserved": gpu.memory_reserved_bytes,
            "free": gpu.memory_free_bytes,
            "bus": gpu.pci_bus_id,
            "numa": gpu.numa_node,
            "mode": None if gpu.compute_mode is None else MODES[gpu.compute_mode],
            "mig": None if gpu.mig else int(gpu.mig_enabled),
            "parent": gpu.mig and index[gpu.mig.parent],
            "ecc": None if health.ecc_enabled is None else int(health.ecc_enabled),
            "ecc_uncorrected": health.ecc_uncorrected,
            "rows_pending": None
            if health.remapped_rows_pending is None
            else int(health.remapped_rows_pending),
            "rows_failure": None
            if health.remapped_rows_failure is None
            else int(health.remapped_rows_failure),
            "pages_pending": None
            if health.retired_pages_pending is None
            else int(health.retired_pages_pending),
            "recovery": None if health.recovery_action is None else ACTIONS[health.recovery_action],
            "pid": gpu.processes[0].pid if gpu.processes else None,
            "used": gpu.processes[0].used_bytes if gpu.processes else None,
            "no_processes": 1 if gpu.processes is None else None,
            "lost": 1 if health.lost else None,
        } | {f"link{index[peer]}": 1 for peer in gpu.nvlink_peers if peer in index}
        said |= {f"{index[gpu.uuid]}.{name}": value for name, value in fields.items()}
    return "".join(f"{key}={value}\n" for key, value in (said | more).items() if value is not None)


Reading = tuple[Inventory, dict[str, object]]


@pytest.fixture(scope="module")
def readers(libraries: dict[bool, Path]) -> Iterator[dict[bool, subprocess.Popen[str]]]:
    """One process a library, because a library is loaded once; each reads as many nodes as it is told."""
    started = {
        old: subprocess.Popen(
            [sys.executable, "-c", READER],
            env=os.environ | {"LD_LIBRARY_PATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for old, folder in libraries.items()
    }
    yield started
    for process in started.values():
        process.communicate(timeout=120)


@pytest.fixture
def read(readers: dict[bool, subprocess.Popen[str]], tmp_path: Path) -> Callable[..., Reading]:
    """Reads the node that an inventory describes, in another process, through nvidia-ml-py."""

    def reading(
        inventory: Inventory, *, old: bool = False, deadline_s: float = 10.0, **more: object
    ) -> Reading:
        stub = tmp_path / "node.txt"
        stub.write_text(lines(inventory, {key.replace("_", ".", 1): value for key, value in more.items()}))
        process = readers[old]
        assert process.stdin is not None
        assert process.stdout is not None
        fault_s = 60.0 if any(key.endswith("_xid") for key in more) else 0.05
        process.stdin.write(f"{stub} {deadline_s} {fault_s}\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline())
        return from_json(json.dumps(said["inventory"]).encode()), said

    return reading


def full(gpu: Gpu, **more: object) -> Gpu:
    """A data-centre GPU that says everything."""
    return replace(
        gpu,
        memory_reserved_bytes=GIB // 2,
        pci_bus_id="00000000:19:00.0",
        numa_node=1,
        compute_mode="default",
        mps_clients=0,
        processes=(),
        health=Health(
            ecc_enabled=True,
            ecc_uncorrected=0,
            remapped_rows_pending=False,
            remapped_rows_failure=False,
            retired_pages_pending=False,
            recovery_action="none",
        ),
        **more,  # type: ignore[arg-type]
    )


def test_eight_h100_on_nvswitch(read: Callable[..., Reading]) -> None:
    """Every field of every GPU, and links between all pairs."""
    given = node(tuple(full(gpu) for gpu in gpus(8)), driver="580.95.05", cuda_driver=13000)
    found, _ = read(given)
    assert found.gpus == given.gpus
    assert (found.driver, found.cuda_driver, found.nvml_error) == ("580.95.05", 13000, None)
    assert found.cpu_cores
    assert found.memory_bytes


def test_four_l4_without_links(read: Callable[..., Reading]) -> None:
    """PCIe only: no peers."""
    four = gpus(4, 22.5, name="NVIDIA L4", compute_capability=(8, 9), linked=False)
    assert [gpu.nvlink_peers for gpu in read(node(four))[0].gpus] == [()] * 4


def test_two_3090_with_a_bridge_and_no_ecc(read: Callable[..., Reading]) -> None:
    """GeForce supports little of health: None, not a fault."""
    pair = gpus(2, 23.57, name="NVIDIA GeForce RTX 3090", compute_capability=(8, 6))
    found, _ = read(node(pair))
    assert [gpu.nvlink_peers for gpu in found.gpus] == [("GPU-1",), ("GPU-0",)]
    assert [(gpu.health, gpu.fault) for gpu in found.gpus] == [(Health(), None)] * 2


def test_mig_instances_have_their_own_memory_and_a_parent(read: Callable[..., Reading]) -> None:
    """The parent is marked as no place; instances follow with profile and memory."""
    parent = full(gpus(1)[0], mig_enabled=True)
    halves = tuple(
        Gpu(
            uuid=f"MIG-{index}",
            name="NVIDIA H100 80GB HBM3 MIG 3g.40gb",
            memory_total_bytes=int(39.5 * GIB),
            memory_reserved_bytes=0,
            memory_free_bytes=int(39.4 * GIB),
            mig=Mig("GPU-0", "3g.40gb"),
            processes=(),
        )
        for index in (1, 2)
    )
    found, _ = read(node((parent, *halves)))
    inherited = {
        "compute_capability": (9, 0),
        "pci_bus_id": parent.pci_bus_id,
        "numa_node": 1,
        "compute_mode": "default",
        "health": parent.health,
    }
    assert found.gpus == (parent, *(replace(half, **inherited) for half in halves))  # type: ignore[arg-type]


def test_unified_memory_is_recognized_by_what_is_missing(read: Callable[..., Reading]) -> None:
    """GB10 supports no memory info: total and free are unknown, the node says why."""
    bare = replace(
        gpus(1, name="NVIDIA GB10", compute_capability=(12, 1))[0],
        memory_total_bytes=None,
        memory_free_bytes=None,
    )
    found, _ = read(node((bare,)))
    assert found.unified_memory
    assert found.gpus[0].memory_total_bytes is None


def test_a_gpu_that_fell_off_the_bus_spoils_no_other(read: Callable[..., Reading]) -> None:
    """It is there by uuid, marked as lost; its neighbour is whole."""
    sound, sick = (full(gpu) for gpu in gpus(2))
    found, said = read(node((sound, replace(sick, health=Health(lost=True)))))
    assert [gpu.fault for gpu in found.gpus] == [None, "fell off the bus"]
    assert found.gpus[1].uuid == "GPU-1"
    assert found.gpus[0].memory_free_bytes == sound.memory_free_bytes
    assert [lost for *_, lost in said["samples"]] == [False, True]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("health", "fault"),
    [
        (Health(remapped_rows_pending=True, remapped_rows_failure=False), "row remapping pends a reset"),
        (Health(remapped_rows_pending=False, remapped_rows_failure=True), "row remapping failed"),
        (Health(retired_pages_pending=True), "page retirement pends a reset"),
        (Health(recovery_action="drain_and_reset"), "the driver requires drain_and_reset"),
    ],
)
def test_health_that_fences(read: Callable[..., Reading], health: Health, fault: str) -> None:
    """Each through its own NVML call."""
    found, _ = read(node((replace(gpus(1)[0], health=health),)))
    assert (found.gpus[0].health, found.gpus[0].fault) == (health, fault)


def test_an_old_driver_lacks_functions_not_gpus(read: Callable[..., Reading]) -> None:
    """No memory info v2, no field values, no NUMA: the older calls and None take their places."""
    given = full(gpus(1)[0])
    found, _ = read(node((given,), driver="470.1", cuda_driver=11040), old=True)
    expected = replace(
        given,
        memory_reserved_bytes=0,
        numa_node=None,
        health=replace(given.health, recovery_action=None),
    )
    assert found.gpus == (expected,)
    assert found.cuda_driver == 11040


def test_processes_and_samples(read: Callable[..., Reading]) -> None:
    """Who holds memory, and what the GPU does."""
    busy = replace(full(gpus(1)[0]), processes=(GpuProcess(4711, 3 * GIB),))
    found, said = read(node((busy,)), **{"0_busy": 87, "0_temperature": 61, "0_power": 412000})
    assert found.gpus[0].processes == (GpuProcess(4711, 3 * GIB),)
    assert said["samples"] == [["GPU-0", 0.87, 61, 412000, False]]


def test_a_critical_xid_is_an_event(read: Callable[..., Reading]) -> None:
    """With the GPU it happened on; none when nothing happens."""
    assert read(node(gpus(2)), **{"1_xid": 79})[1]["fault"] == ["GPU-1", 79]
    assert read(node(gpus(2)))[1]["fault"] is None


def test_no_driver_is_a_reason(read: Callable[..., Reading], libraries: dict[bool, Path]) -> None:
    """The library is there, the driver is not: the error's own words."""
    done = subprocess.run(
        [sys.executable, "-m", "pareta_agent", "inventory"],
        env={key: value for key, value in os.environ.items() if key != "NVML_STUB"}
        | {"LD_LIBRARY_PATH": str(libraries[False])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "none: Driver Not Loaded" in done.stdout


def test_a_library_that_hangs_costs_the_deadline_only(read: Callable[..., Reading]) -> None:
    """No GPUs, the reason, and the host's part all the same."""
    found, _ = read(node(gpus(1)), old=True, deadline_s=0.2, hang=1)
    assert found.gpus == ()
    assert found.nvml_error == "NVML did not answer in time"
    assert found.memory_bytes
