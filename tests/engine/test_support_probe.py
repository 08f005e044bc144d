"""The shipped support table against the installed engine's own selectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from pareta_agent.planning.probe import cached, probed
from pareta_agent.planning.support_snapshot import CAPABILITIES, SNAPSHOTS

pytestmark = [pytest.mark.engine, pytest.mark.long]
VERSION = "0.32.0"


async def test_snapshot_is_what_the_selectors_answer(engine_python: Path, tmp_path: Path) -> None:
    """Every format and compute capability of the snapshot, asked again of the installed vLLM; then cached."""
    asked = await probed(engine_python, tmp_path, VERSION)
    expected = {form: dict(row) for form, row in SNAPSHOTS[asked.version].items()}
    assert expected == {form: dict(row) for form, row in asked.kernels.items()}
    assert asked == cached(tmp_path, VERSION)
    assert len(CAPABILITIES) == len(expected["fp8"])
