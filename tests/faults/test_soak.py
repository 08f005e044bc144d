"""Half a minute of everything at once, three in CI (`SOAK_SECONDS`); `make soak` is longer and follows memory too."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from harness import processes_of
from moneylab.soak import soak

pytestmark = pytest.mark.slow
SECONDS = int(os.environ.get("SOAK_SECONDS", "30"))


@pytest.mark.timeout(SECONDS + 240)
def test_mixed_load_with_a_fault_every_five_seconds_loses_nothing(home: Path) -> None:
    """Nothing lost, double or wrongly charged; the chain is whole and delivered, and nothing is left running."""
    found = asyncio.run(soak(home, SECONDS, least_faults=4))
    assert found["seen_whole"] > 100, found
    assert found["sound"], found
    assert processes_of(home) == []
