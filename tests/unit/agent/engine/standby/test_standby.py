"""When a start may fork from a standby."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from engine_plans import PLAN
from engine_room import settings

from pareta_agent.engine.spec import EngineSettings
from pareta_agent.engine.standby.program import inspect_here
from pareta_agent.engine.standby.standby import suits
from pareta_agent.planning.plan import Plan

PYTHON = settings(Path("/nowhere"), command=None, python=Path("/engine/bin/python"), standby=1)


@pytest.mark.parametrize(
    ("told", "plan", "reason"),
    [
        (PYTHON, PLAN, None),
        (replace(PYTHON, standby=0), PLAN, "standby is off"),
        (replace(PYTHON, python=None), PLAN, "the engine is another program"),
        (replace(PYTHON, command=("serve",)), PLAN, "the engine is another program"),
        (replace(PYTHON, version="0.33.0"), PLAN, "untried with vLLM 0.33.0"),
        (replace(PYTHON, version="0.31.9"), PLAN, "untried with vLLM 0.31.9"),
        (PYTHON, replace(PLAN, platform="cuda"), "untried on GPUs"),
        (replace(PYTHON, version="0.25.1", standby_untried=True), replace(PLAN, platform="cuda"), None),
        (PYTHON, replace(PLAN, flags=("--numa-bind",)), "NUMA binding needs fresh processes"),
    ],
)
def test_only_what_was_tried_forks(told: EngineSettings, plan: Plan, reason: str | None) -> None:
    """Everything else starts plainly, and says why."""
    assert suits(told, plan) == reason


@pytest.mark.parametrize(("cuda", "answer"), [(None, "here"), ("13.0", "in a subprocess")])
def test_a_models_class_is_looked_at_without_another_process(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, answer: str
) -> None:
    """vLLM's own way, which imports everything once more, stays where it keeps CUDA out of the server."""
    registry = SimpleNamespace(_run_in_subprocess=lambda _look: "in a subprocess")
    monkeypatch.setitem(sys.modules, "vllm.model_executor.models.registry", registry)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(version=SimpleNamespace(cuda=cuda)))
    inspect_here()
    assert registry._run_in_subprocess(lambda: "here") == answer
