"""Layouts that published recipes, simulations and vLLM's own rules agree on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import golden_cases as golden
import pytest

from pareta_agent.planning.choose import plan

_DATA = Path(__file__).parents[3] / "data"
_DEFAULT = _DATA / "golden.json"
_FULL_RATIO = 0.95


def test_golden_plans(pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> None:
    """Every case is rightly feasible or refused, and 95 % have the expected variant, layout and context."""
    score = scored(Path(os.environ.get("PARETA_GOLDEN_PLANS", _DEFAULT)))
    pytestconfig.stash[golden.GOLDEN_LINE] = str(score)
    with capsys.disabled():
        print("\n".join(["", *score.wrong]))
    assert score.feasible == score.total
    assert score.full >= _FULL_RATIO * score.total


def test_further_plans() -> None:
    """Cases of our own, worked out by hand: other GPUs, slices, odd head counts, busy, sick and unequal cards."""
    score = scored(_DATA / "golden_more.json")
    assert score.wrong == []
    assert score.total > 100


@dataclass
class Sum:
    """How many cases of a file were answered rightly, and what was wrong with the others."""

    total: int = 0
    full: int = 0
    feasible: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"golden: {self.full}/{self.total} full, {self.feasible}/{self.total} feasible"


def scored(path: Path) -> Sum:
    total = Sum()
    for case in golden.load_cases(path):
        report = plan(
            golden.architecture(case["model"]),
            golden.variants(case),
            golden.inventory(case["hardware"]),
            golden.request(case),
        )
        score = golden.score(case, report.best)
        total.total += 1
        total.full, total.feasible = total.full + score.full, total.feasible + score.feasible
        if score.wrong:
            total.wrong.append(f"{case['id']}: {score.wrong}")
    return total
