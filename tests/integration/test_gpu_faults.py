"""A running node whose GPUs break: the driver's library is the compiled stub, the engines are fakes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pareta
import pytest
from fakes.driver import GIB, Driver, needs_compiler
from harness import until

from pareta_agent.engine.process.process_record import Intents
from pareta_agent.plane.plane import open_plane

pytestmark = [pytest.mark.slow, needs_compiler]


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    folder = tmp_path / "driver"
    folder.mkdir()
    return Driver(folder)


def planning(agent) -> list[str]:
    """How each plan of the agent's ended."""
    steps = [e["state"] for e in agent.events if e["event"] == "phase" and e["phase"] == "plan"]
    return [state for state in steps if state != "started"]


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
    metrics = httpx.get(ready["metrics_url"], timeout=120).text
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
    assert gone["reason"] == "the start failed (nothing_fits)"
    reasons = {e["gpu"]: e["reason"] for e in agent.events if e["event"] == "gpu_fenced"}
    assert reasons == {"GPU-0": "fell off the bus", "GPU-1": "row remapping pends a reset"}
    driver.says()
    assert until(agent, lambda seen: seen["replicas"] == 2)["status"] == "live"


def test_a_fault_after_healing_keeps_the_layout_that_worked(start, driver: Driver) -> None:
    """One GPU a replica failed and two stages came up: the broken pair goes, the sound pair serves on."""
    driver.gpus = 4
    driver.says()
    agent = start("--least-stages", "2", **driver.settings)
    agent.ready()
    healed = until(agent, lambda seen: seen["replicas"] == 2)
    assert healed["plan"]["gpus"] == [["GPU-0", "GPU-1"], ["GPU-2", "GPU-3"]]
    replanned = len([e for e in agent.events if e["event"] == "replanned"])
    assert "engine_given_up" not in {event["event"] for event in agent.events}
    driver.says(**{"3_xid": 79})
    agent.wait_for("gpu_fenced")
    after = until(agent, lambda seen: seen["plan"]["gpus"] == [["GPU-0", "GPU-1"]] and seen["replicas"] == 1)
    assert (after["status"], after["plan"]["pp"]) == ("live", 2)
    assert len([e for e in agent.events if e["event"] == "replanned"]) == replanned


def engines(agent, name: str) -> set[tuple[int, str]]:
    """Process and GPU of each of the endpoint's replicas."""
    intents = Intents(agent.home / "engines").all()
    return {(i.pid, *i.gpus) for i in intents if i.endpoint == name and not i.ended}  # type: ignore[misc]


def test_a_lost_replica_moves_to_a_gpu_that_became_free(start, driver: Driver, tmp_path: Path) -> None:
    """Its neighbour serves on; what another endpoint has is left alone until that one stops. Wherever they were moved,
    the next agent takes both over as they run, and has none in the broken GPU's place."""
    driver.gpus = 3
    driver.says()
    config = tmp_path / "two.toml"
    config.write_text(
        '[[endpoints]]\ntask = "contract-key-fields"\nid = "ep_one"\n'
        '[[endpoints]]\ntask = "clause-summary"\nid = "ep_two"\n'
    )
    agent = start(flags=("--config", str(config)), **driver.settings)
    ready = agent.ready()
    one = until(agent, lambda seen: seen["replicas"] == 2, "ep_one")
    two = until(agent, lambda seen: seen["replicas"] == 1, "ep_two")
    (kept,), (lost,) = one["plan"]["gpus"]
    ((other,),) = two["plan"]["gpus"]
    assert {kept, lost, other} == {"GPU-0", "GPU-1", "GPU-2"}
    driver.says(**{f"{lost[-1]}_xid": 79})
    agent.wait_for("gpu_fenced")
    assert until(agent, lambda seen: seen["plan"]["gpus"] == [[kept]], "ep_one")["status"] == "live"
    root = ready["base_url"].removesuffix("/v1")
    with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as client:
        client.endpoints.stop("ep_two")
    moved = until(agent, lambda seen: seen["replicas"] == 2, "ep_one")
    assert sorted(moved["plan"]["gpus"]) == sorted([[kept], [other]])
    spawns = [e for e in agent.events if e["event"] == "phase" and e["phase"] == "spawn"]
    assert sum(e["endpoint"] == "ep_one" and e["state"] == "done" for e in spawns) == 3
    before = engines(agent, "ep_one")
    agent.kill()
    again = start(flags=("--config", str(config)), **driver.settings)
    again.ready()
    assert until(again, lambda seen: seen["replicas"] == 2, "ep_one")["plan"]["gpus"] in (
        [[kept], [other]],
        [[other], [kept]],
    )
    assert engines(again, "ep_one") == before
    assert {gpu for _, gpu in before} == {kept, other}
    adopted = [e["replica"] for e in again.events if e["event"] == "engine_adopted"]
    assert sorted(adopted) == ["ep_one/0", "ep_one/1"]


def test_an_adopted_engines_own_memory_is_free_for_its_successor(start, driver: Driver) -> None:
    """The agent died and its engines hold the GPUs: planned anew, the endpoint finds what they will give back."""
    agent = start(**driver.settings)
    agent.ready()
    until(agent, lambda seen: seen["replicas"] == 2)
    agent.kill()
    driver.says(**{"0_free": 5 * GIB, "1_free": 5 * GIB})
    again = start(**driver.settings)
    again.ready()
    before = until(again, lambda seen: seen["replicas"] == 2)
    plane, database = open_plane(again.home)  # the owner asks for another attempt
    assert plane.deployments.set_state("org_local", "ep_contract_kie", "running")
    database.close()
    deadline = time.monotonic() + 120
    while len(planned := planning(again)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    driver.says()
    assert planned == ["done", "done"]
    after = until(again, lambda seen: seen["replicas"] == 2)
    shares = [seen["plan"]["gpu_memory_utilization"] for seen in (before, after)]
    assert shares == [0.92, 0.92]
