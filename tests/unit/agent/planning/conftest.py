"""Says the golden score last, after everything that pytest itself says."""

from __future__ import annotations

import sys

import pytest
from golden_cases import GOLDEN_LINE


def pytest_unconfigure(config: pytest.Config) -> None:
    if line := config.stash.get(GOLDEN_LINE, None):
        sys.stdout.write(line + "\n")
