"""The field that constrains an answer."""

from __future__ import annotations

import pytest

from pareta_agent.gateway.api.constraints import constraint_of

TOOL = {"type": "function", "function": {"name": "f"}}
STRICT = {"type": "function", "function": {"name": "f", "strict": True}}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, None),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": "json"}, None),
        ({"text": {"format": {"type": "json_schema"}}}, "text"),
        ({"text": {"verbosity": "low"}}, None),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config"),
        ({"tools": [TOOL]}, None),
        ({"tools": [TOOL], "tool_choice": "auto"}, None),
        ({"tools": [TOOL], "tool_choice": {"type": "none"}}, None),
        ({"tools": [TOOL], "tool_choice": "required"}, "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}}, "tools"),
        ({"tools": [TOOL, STRICT]}, "tools"),
        ({"tools": [{"type": "function", "name": "f", "strict": True}], "tool_choice": "auto"}, "tools"),
        ({"tools": "f", "tool_choice": "required"}, None),
        ({"tools": ["f", None]}, None),
    ],
)
def test_the_field_that_constrains_the_answer(fields, field):
    """In each dialect; tools that need not be called constrain nothing."""
    assert constraint_of(fields) == field
