"""What a plan's flags say of the answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_plans import PLAN

from pareta_registry.engine_flags import argv


@pytest.mark.parametrize(
    ("settings", "greedy"),
    [
        ({}, False),
        ({"override_generation_config": {"temperature": 0.0}}, True),
        (
            {"override_generation_config": {"temperature": 0, "top_p": 0.9}, "enable_prefix_caching": True},
            True,
        ),
        ({"override_generation_config": {"temperature": 0.7}}, False),
        ({"override_generation_config": {"top_k": 20}}, False),
    ],
)
def test_a_catalog_that_sets_temperature_0_makes_an_engine_greedy(settings, greedy):
    """As the catalog's settings are spelled on the engine's command line."""
    assert replace(PLAN, flags=argv(settings)).greedy is greedy
