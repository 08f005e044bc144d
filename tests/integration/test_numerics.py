"""Wrong numbers on this hardware: healed at a start, avoided by plans, and said wherever the operator looks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from subprocess import run
from urllib.request import urlopen

import pytest
from harness import AGENT, environment

import pareta_registry
from pareta_agent.hardware.processor import read_processor
from pareta_agent.kernel_check.check import KernelCheck, KernelResult, remember

TASK = "contract-key-fields"
SAID = "bfloat16 gives wrong text on this processor: float32 is used"


def catalog(folder: Path, dtype: str) -> str:
    """The demo catalog with a dtype of the operator's."""
    made = folder / "catalog"
    shutil.copytree(Path(pareta_registry.__file__).parent / "demo", made)
    models = made / "models.yaml"
    models.write_text(models.read_text().replace("engine:\n", f"engine:\n  dtype: {dtype}\n", 1))
    return str(made)


def row(error: float) -> KernelResult:
    return KernelResult(
        op="attention", backend="amx", dtype="bfloat16", case="decode", limit=0.03, error=error
    )


@pytest.mark.slow
def test_a_wrong_canary_is_healed_by_another_dtype(home, start, tmp_path):
    """Live after one new plan; never given up, known to the next start, to `status`, `plan` and the metrics."""
    settings = {"PARETA_REGISTRY_CATALOG": catalog(tmp_path, "bfloat16")}
    agent = start("--wrong-in", "bfloat16", **settings)
    ready = agent.ready()
    names = [event["event"] for event in agent.events]
    assert names.count("replanned") == 1
    assert "engine_given_up" not in names
    assert agent.status()["endpoints"][0]["plan"]["workaround"] == SAID
    with urlopen(ready["metrics_url"]) as answer:
        assert b'pareta_plan_workaround{endpoint="ep_contract_kie"} 1.0' in answer.read()
    agent.stop()
    again = start("--wrong-in", "bfloat16", **settings)
    again.ready()
    assert "replanned" not in [event["event"] for event in again.events]
    planned = json.loads(again.command("plan", TASK, "--json").stdout)
    assert planned["candidates"][0]["plan"]["workaround"] == SAID


@pytest.mark.slow
def test_a_canary_that_nothing_mends_ends_the_start(home, start, tmp_path):
    """Exit 6 after both dtypes, and nothing is remembered against the hardware."""
    agent = start("--wrong-text")
    assert agent.process.wait(120) == 6
    names = [event["event"] for event in agent.events]
    assert (names.count("replanned"), names.count("replan_refused")) == (1, 1)
    kept = home / "measured.json"
    assert not kept.exists() or json.loads(kept.read_text())["numerics"]["remedies"] == {}


@pytest.mark.slow
@pytest.mark.parametrize(("error", "dtype"), [(0.001, "bfloat16"), (0.4, "float32")])
def test_a_failed_kernel_check_is_obeyed_before_the_first_start(home, tmp_path, error, dtype):
    """`plan`, `engine check` and `doctor` go by the result that is remembered for this processor."""
    env = environment(
        home, PARETA_REGISTRY_CATALOG=catalog(tmp_path, "bfloat16"), PARETA_CACHE=str(tmp_path / "c")
    )
    found = KernelCheck(version="0.32.0", device=read_processor().key, rows=(row(error),))
    remember(found, tmp_path / "c" / "support")
    said = run([*AGENT, "plan", TASK, "--json"], env=env, capture_output=True, check=True, text=True).stdout
    best = json.loads(said)["candidates"][0]["plan"]
    assert best["dtype"] == dtype
    wanted = "bfloat16 attention gives wrong text on this processor: float32 is used"
    assert best["workaround"] == (wanted if error > 0.03 else None)
    shown = run([*AGENT, "plan", TASK], env=env, capture_output=True, check=True, text=True).stdout
    assert ("gives wrong text" in shown) == (error > 0.03)
