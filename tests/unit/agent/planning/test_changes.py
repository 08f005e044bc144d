"""What a new plan would change."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from planner_values import LLAMA_8B, gpus, node, variant

from pareta_agent.planning.changes import PlanChange, diff
from pareta_agent.planning.choose import plan
from pareta_agent.planning.request import PlanRequest

PLAN = plan(LLAMA_8B, [variant()], node(gpus(2)), PlanRequest()).candidates[0].plan


def test_the_same_plan_changes_nothing() -> None:
    """Also after a way through JSON, and whatever its estimates were."""
    running = json.loads(json.dumps(asdict(replace(PLAN, kv_tokens=1))))
    assert diff(running, PLAN) == ()


def test_each_knob_that_differs() -> None:
    """In the plan's own order."""
    running = json.loads(json.dumps(asdict(replace(PLAN, max_model_len=4096, kv_cache_dtype="fp8"))))
    assert diff(running, PLAN) == (
        PlanChange("kv_cache_dtype", "fp8", "auto"),
        PlanChange("max_model_len", "4096", "131072"),
    )


def test_what_the_running_side_does_not_say_is_not_compared() -> None:
    """A summary of a plan is enough for what it holds."""
    assert diff({"tp": 4, "summary": "…"}, PLAN) == (PlanChange("tp", "4", "1"),)
