"""Every flag that we may say, against each vLLM's own argument definitions (read by benchmarks/gpu/flags.py)."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from engine_plans import PLAN

from pareta_agent.engine.pins import committed
from pareta_agent.engine.vllm import command, versions
from pareta_agent.planning import request
from pareta_agent.planning.plan import Plan
from pareta_agent.planning.request import AdapterSlots
from pareta_registry.engine_flags import ALLOWED, argv

DATA = Path(__file__).parents[3] / "data" / "vllm_flags.json"
TABLE: dict[str, set[str]] = {
    version: set(release["flags"]) for version, release in json.loads(DATA.read_text()).items()
}
LAUNCH = command.Launch(
    "ep_x", Path("/w"), Path("/r/s"), Path("/r/t"), Path("/c"), "h/ep_x/0/1", ("GPU-a",), remote_code=True
)
GPU = replace(PLAN, platform="cuda", gpus=(("GPU-a",),), gpu_memory_utilization=0.9, kv_cache_bytes=None)
PLANS = (
    PLAN,
    GPU,
    replace(GPU, tp=2, pp=2, dp=2, expert_parallel=True, kv_cache_dtype="fp8"),
    replace(GPU, kv_cache_bytes=1 << 30),
    replace(PLAN, flags=AdapterSlots(8, 1, 16).flags),
)
VALUES = {"flag": True, "int": 1, "number": 1.5, "text": "auto", "json": {"a": 1}}


def said(plan: Plan, version: str) -> set[str]:
    return {word for word in command.arguments(plan, LAUNCH, version) if word.startswith("--")}


@pytest.mark.parametrize("version", TABLE)
def test_every_flag_of_every_plan_exists_there(version: str) -> None:
    """An engine of that version would not end with exit 2."""
    assert {flag for plan in PLANS for flag in said(plan, version)} - TABLE[version] == set()


def test_the_plans_make_us_say_all_that_we_can() -> None:
    """A flag added to the command line needs a plan here that says it."""
    words = {
        node.value
        for source in (command.__file__, request.__file__)
        for node in ast.walk(ast.parse(Path(source).read_text()))
        if isinstance(node, ast.Constant)
    }
    known = {word for word in words if isinstance(word, str) and word.startswith("--") and word != "--"}
    assert {flag for plan in PLANS for flag in said(plan, "0.33.0")} == known


@pytest.mark.parametrize("version", TABLE)
@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_a_catalogs_setting_passes_the_gate_only_where_the_engine_takes_it(version: str, name: str) -> None:
    """What the gate lets through exists there; a switch in both its spellings."""
    values = (True, False) if ALLOWED[name] == "flag" else (VALUES[ALLOWED[name]],)
    for value in values:
        flag = argv({name: value})[0]
        assert (flag, versions.knows(versions.parse(version), flag)) == (flag, flag in TABLE[version])


@pytest.mark.parametrize("version", TABLE)
@pytest.mark.parametrize("flag", sorted({*versions.SINCE, *versions.UNTIL}))
def test_the_gates_are_where_the_engine_changed(version: str, flag: str) -> None:
    """The table of versions says of each flag what the release says."""
    assert versions.knows(versions.parse(version), flag) == (flag in TABLE[version])


def test_every_engine_that_can_be_installed_was_read() -> None:
    """New pins come with the flags of their release."""
    assert {pins.version for pins in committed()} - set(TABLE) == set()
