"""Layouts that published recipes, simulations and vLLM's own rules agree on."""

from __future__ import annotations

import os
from pathlib import Path

import golden_cases as golden
import pytest

from pareta_agent.planning.choose import plan

_DEFAULT = Path(__file__).parents[3] / "data" / "golden.json"
_FULL_RATIO = 0.95


def test_golden_plans(pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> None:
    """Every case is rightly feasible or refused, and 95 % have the expected variant, layout and context."""
    cases = golden.load_cases(Path(os.environ.get("PARETA_GOLDEN_PLANS", _DEFAULT)))
    full = feasible = 0
    lines = []
    for case in cases:
        report = plan(
            golden.architecture(case["model"]),
            golden.variants(case),
            golden.inventory(case["hardware"]),
            golden.request(case),
        )
        score = golden.score(case, report.best)
        full, feasible = full + score.full, feasible + score.feasible
        if score.wrong:
            lines.append(f"{case['id']}: {score.wrong}")
    total = len(cases)
    pytestconfig.stash[golden.GOLDEN_LINE] = f"golden: {full}/{total} full, {feasible}/{total} feasible"
    with capsys.disabled():
        print("\n".join(["", *lines]))
    assert feasible == total
    assert full >= _FULL_RATIO * total
