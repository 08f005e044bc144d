"""Metric window: valid windows, and the parts of a series."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pareta_agent.plane.metrics.window import Window, iso, parse

NOW_S = 1_760_000_000.5


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("24h", None, None), (1_759_913_601, 1_760_000_001)),
        (("15m", None, "1760000000"), (1_759_999_100, 1_760_000_000)),
        (("24h", "1759999000", None), (1_759_999_000, 1_760_000_001)),
        (("24h", "2025-10-09T08:00:00Z", "2025-10-09T09:00:00+00:00"), (1_759_996_800, 1_760_000_400)),
        (("24h", "2025-10-09T08:00:00", "2025-10-09T10:00:00+01:00"), (1_759_996_800, 1_760_000_400)),
    ],
)
def test_a_window_is_a_length_or_two_moments(asked, expected) -> None:
    """The end is outside the window; a moment without a zone is UTC."""
    assert parse(*asked, NOW_S) == Window(*expected)


@pytest.mark.parametrize(
    "asked",
    [
        ("", None, None),
        ("0h", None, None),
        ("h", None, None),
        ("91d", None, None),
        ("24 h", None, None),
        ("24h", "yesterday", None),
        ("24h", None, "9" * 30),
        ("24h", "-5", None),
        ("24h", "1760000000", "1750000000"),
        ("24h", "0001-01-01", None),
        ("24h", "²", None),
    ],
)
def test_what_is_no_window_is_said(asked) -> None:
    """An invalid window gives a sentence, not an exception."""
    assert isinstance(parse(*asked, NOW_S), str)


@given(st.text(max_size=12), st.none() | st.text(max_size=30), st.none() | st.text(max_size=30))
def test_any_text_is_a_window_or_a_sentence(length: str, since: str | None, until: str | None) -> None:
    """Any query string gives a window or a sentence."""
    assert isinstance(parse(length, since, until, NOW_S), Window | str)


@given(st.integers(1, 90 * 86400))
def test_a_series_covers_its_window_in_few_parts(seconds: int) -> None:
    """At most ninety parts, and the first begins the window."""
    window = Window(1_000_000, 1_000_000 + seconds)
    assert window.parts[0] == window.since_s
    assert 1 <= len(window.parts) <= 90
    assert window.parts[-1] < window.until_s <= window.parts[-1] + window.width_s


def test_moments_are_told_in_utc() -> None:
    """Moments have seconds, and nothing finer."""
    assert iso(1_760_000_000.9) == "2025-10-09T08:53:20+00:00"
