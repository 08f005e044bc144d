"""Only harmless engine settings may stand in a catalog, and they are spelled as the engine spells them."""

from __future__ import annotations

import pytest

from pareta_registry.engine_flags import argv, refusal


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_num_seqs", 8),
        ("enable_prefix_caching", False),
        ("tool_call_parser", "hermes"),
        ("hf_overrides", {"a": [1]}),
    ],
)
def test_allowed_settings_pass(name: str, value: object) -> None:
    """A value of the right kind has no refusal."""
    assert refusal(name, value) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("middleware", "os.system"), ("model", "x"), ("trust_remote_code", True), ("load_format", "pickle"),
        ("max_num_seqs", True), ("max_num_seqs", -1), ("max_num_seqs", "8"), ("enable_prefix_caching", 1),
        ("tool_call_parser", "/tmp/x.py"), ("tool_call_parser", ""), ("dtype", "-x"), ("dtype", "a b"),
        ("hf_overrides", "{}"), ("hf_overrides", {"x": float("nan")}), ("hf_overrides", {"x": "\ud800"}),
    ],
)  # fmt: skip
def test_everything_else_is_refused(name: str, value: object) -> None:
    """Unknown names, wrong kinds, paths and options in disguise are refused."""
    assert refusal(name, value)


def test_settings_become_arguments() -> None:
    """Sorted, dashed, with --no- for false and JSON for mappings."""
    settings = {"seed": 3, "hf_overrides": {"b": 1}, "enable_prefix_caching": False}
    expected = ("--no-enable-prefix-caching", "--hf-overrides", '{"b": 1}', "--seed", "3")
    assert expected == argv(settings)
