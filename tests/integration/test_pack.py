"""Several endpoints of one node share what it has, through `serve`: GPUs of the stub driver, or the host's memory."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from fakes.driver import GIB, Driver, needs_compiler
from harness import Agent, endpoint, until

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two endpoints of two tasks."""
    file = tmp_path / "two.toml"
    file.write_text(
        '[[endpoints]]\ntask = "contract-key-fields"\nid = "ep_one"\n'
        '[[endpoints]]\ntask = "clause-summary"\nid = "ep_two"\n'
    )
    return file


def both_live(agent: Agent) -> tuple[dict, dict]:
    """The plans of both, once they are live."""
    agent.ready()
    for name in ("ep_one", "ep_two"):
        until(agent, lambda seen: seen["status"] == "live", name)
    one, two = (endpoint(agent, name)["plan"] for name in ("ep_one", "ep_two"))
    return one, two


@needs_compiler
def test_each_endpoint_has_gpus_of_its_own_and_none_is_idle(start, config: Path, tmp_path: Path) -> None:
    """Five GPUs: a place for each, then one more in turn, the first asker first."""
    agent = start(flags=("--config", str(config)), **Driver(tmp_path, gpus=5).settings)
    one, two = both_live(agent)
    used = [uuid for plan in (one, two) for group in plan["gpus"] for uuid in group]
    assert (one["replicas"], two["replicas"]) == (3, 2)
    assert sorted(used) == [f"GPU-{index}" for index in range(5)]


@needs_compiler
def test_small_models_share_the_only_gpu(start, config: Path, tmp_path: Path) -> None:
    """Each claims less than half of it, so that both fit beside one another."""
    agent = start(flags=("--config", str(config)), **Driver(tmp_path, gpus=1).settings)
    one, two = both_live(agent)
    assert one["gpus"] == two["gpus"] == [["GPU-0"]]
    shares = [plan["gpu_memory_utilization"] for plan in (one, two)]
    assert all(0.4 < share < 0.5 for share in shares)


@pytest.mark.skipif(psutil.virtual_memory().available < 14 * GIB, reason="two engines need 14 GiB")
def test_endpoints_on_a_cpu_share_its_memory(start, config: Path) -> None:
    """Both are planned at once, so that the second does not count on what the first is about to take."""
    available = psutil.virtual_memory().available
    one, two = both_live(start(flags=("--config", str(config))))
    taken = [sum(v for k, v in plan["footprint"].items() if k != "kv_bytes_per_token") for plan in (one, two)]
    assert sum(taken) <= available
    assert all(plan["kv_cache_bytes"] <= GIB for plan in (one, two))
