"""Every flag that we may say and variable that we may set, against each vLLM's own definitions (benchmarks/gpu/flags.py
reads them)."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from engine_plans import PLAN

from pareta_agent.engine.install.requirements import committed
from pareta_agent.engine.vllm import caches, command, structured, versions
from pareta_agent.planning import request
from pareta_agent.planning.plan import Plan
from pareta_agent.planning.request import AdapterSlots
from pareta_registry.engine_flags import ALLOWED, argv

DATA = Path(__file__).parents[3] / "data" / "vllm_flags.json"
READ = json.loads(DATA.read_text())
TABLE: dict[str, set[str]] = {version: set(release["flags"]) for version, release in READ.items()}
LAUNCH = command.Launch(
    "ep_x",
    Path("/w"),
    Path("/r/s"),
    Path("/r/t"),
    Path("/c"),
    "h/ep_x/0/1",
    ("GPU-a",),
    remote_code=True,
    sleeps=True,
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


def variables(version: str) -> set[str]:
    """Of vLLM's, those that any plan sets."""
    return {
        name
        for plan in PLANS
        for name in command.environment(plan, LAUNCH, version, {})
        if name.startswith("VLLM_")
    }


def words(*sources: str) -> set[str]:
    """Every text that stands by itself in these files."""
    nodes = (node for source in sources for node in ast.walk(ast.parse(Path(source).read_text())))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("version", TABLE)
def test_every_flag_of_every_plan_exists_there(version: str) -> None:
    """An engine of that version would not end with exit 2."""
    assert {flag for plan in PLANS for flag in said(plan, version)} - TABLE[version] == set()


@pytest.mark.parametrize("version", TABLE)
def test_every_variable_of_every_plan_means_something_there(version: str) -> None:
    """An engine of that version reads it; one that it does not know would be without effect."""
    assert variables(version) - set(READ[version]["variables"]) == set()


def test_the_plans_make_us_say_all_that_we_can() -> None:
    """A flag added to the command line needs a plan here that says it."""
    ours = words(command.__file__, request.__file__, structured.__file__)
    known = {word for word in ours if re.fullmatch(r"--[a-z].*", word)}
    assert {flag for plan in PLANS for flag in said(plan, "0.33.0")} == known


def test_the_plans_make_us_set_all_that_we_can() -> None:
    """A variable added to the environment needs a plan here that sets it."""
    known = {word for word in words(command.__file__, caches.__file__) if re.fullmatch(r"VLLM_\w+", word)}
    assert {name for version in TABLE for name in variables(version)} == known


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
