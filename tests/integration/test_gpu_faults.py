"""A running node whose GPUs break: the driver's library is the compiled stub, the engines are fakes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

STUB = Path(__file__).parents[1] / "fakes" / "nvml" / "stub.c"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
GIB = 1 << 30
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C compiler to build the stub with"),
]


class Driver:
    """The stub's file: what NVML says of two H100s, changed under whoever reads it."""

    def __init__(self, folder: Path) -> None:
        library = folder / "libnvidia-ml.so.1"
        subprocess.run(
            [str(COMPILER), "-shared", "-fPIC", "-O1", "-o", str(library), str(STUB)], check=True, timeout=60
        )
        self.file = folder / "node.txt"
        self.settings = {"LD_LIBRARY_PATH": str(folder), "NVML_STUB": str(self.file)}
        self.says()

    def says(self, **more: object) -> None:
        """The sound node, with `more` in the stub's words (`1_lost=1` is `1.lost=1`)."""
        facts = {
            f"{index}.{name}": value
            for index in range(2)
            for name, value in {
                "uuid": f"GPU-{index}",
                "name": "NVIDIA H100 80GB HBM3",
                "capability": "9.0",
                "total": 80 * GIB,
                "reserved": 0,
                "free": 79 * GIB,
                "busy": 40 + index,
                "temperature": 60,
                "power": 350000,
                "ecc_uncorrected": 0,
            }.items()
        }
        facts |= {"driver": "580.95.05", "cuda": 13000}
        facts |= {name.replace("_", ".", 1): value for name, value in more.items()}
        partial = self.file.with_suffix(".partial")
        partial.write_text("".join(f"{name}={value}\n" for name, value in facts.items()))
        partial.replace(self.file)


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    folder = tmp_path / "driver"
    folder.mkdir()
    return Driver(folder)


def endpoint(agent) -> dict:
    return json.loads(agent.command("status", "--json").stdout)["endpoints"][0]


def until(agent, holds: Callable[[dict], bool], timeout_s: float = 30.0) -> dict:
    """The endpoint's status once it is as asked; what it was when the time is up."""
    deadline = time.monotonic() + timeout_s
    while not holds(seen := endpoint(agent)):
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    return seen


def gauge(metrics: str, name: str, gpu: str) -> float | None:
    found = re.search(rf'^{name}{{gpu="{gpu}"[^}}]*}} (\S+)$', metrics, re.MULTILINE)
    return float(found[1]) if found else None


def test_a_fatal_xid_moves_work_off_the_gpu_and_spares_the_neighbour(start, driver: Driver) -> None:
    """The sound GPU's replica serves on under its generation; the fence and the XID are told and counted."""
    agent = start(**driver.settings)
    ready = agent.ready()
    before = until(agent, lambda seen: seen["replicas"] == 2)
    assert sorted(group[0] for group in before["plan"]["gpus"]) == ["GPU-0", "GPU-1"]
    driver.says(**{"1_xid": 79})
    fence = agent.wait_for("gpu_fenced")
    assert (fence["gpu"], fence["reason"]) == ("GPU-1", "fatal XID 79")
    after = until(agent, lambda seen: seen["plan"]["gpus"] == [["GPU-0"]] and seen["replicas"] == 1)
    assert after["status"] == "live"
    spawns = [e for e in agent.events if e["event"] == "phase" and e["phase"] == "spawn"]
    assert sum(e["state"] == "done" for e in spawns) == 2
    metrics = httpx.get(ready["metrics_url"]).text
    assert [gauge(metrics, "pareta_gpu_fenced", gpu) for gpu in ("GPU-0", "GPU-1")] == [0, 1]
    assert 'pareta_gpu_xid_total{gpu="GPU-1",xid="79"} 1.0' in metrics
    assert gauge(metrics, "pareta_gpu_busy_ratio", "GPU-0") == 0.4
    assert gauge(metrics, "pareta_gpu_power_watts", "GPU-0") == 350
    assert gauge(metrics, "pareta_gpu_memory_free_bytes", "GPU-0") == 79 * GIB


def test_gpus_that_fall_off_the_bus_and_come_back(start, driver: Driver) -> None:
    """With no GPU left the endpoint fails with a reason; when they are back it is planned and live again."""
    agent = start(**driver.settings)
    agent.ready()
    until(agent, lambda seen: seen["replicas"] == 2)
    driver.says(**{"0_lost": 1, "1_rows_pending": 1, "1_rows_failure": 0})
    gone = until(agent, lambda seen: seen["status"] == "failed")
    assert gone["reason"] == "it could not be started (nothing_fits)"
    reasons = {e["gpu"]: e["reason"] for e in agent.events if e["event"] == "gpu_fenced"}
    assert reasons == {"GPU-0": "fell off the bus", "GPU-1": "row remapping pends a reset"}
    driver.says()
    assert until(agent, lambda seen: seen["replicas"] == 2)["status"] == "live"
