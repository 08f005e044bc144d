"""kill -9 under load, at random moments and at every named point; the verdict is an oracle's outside the node."""

from __future__ import annotations

from pathlib import Path

import pytest
from moneylab.kills import POINTS, attack, plane_lives, pointed_lives, random_lives, recovery_lives


def test_random_deaths_lose_nothing(tmp_path: Path) -> None:
    """Eight lives of 64 clients each, ended at any moment."""
    verdict, counts = attack(tmp_path, random_lives(8))
    assert counts["kills"] == 8
    assert verdict.completions_seen > 20
    assert verdict.sound, verdict


@pytest.mark.slow
def test_deaths_at_every_named_point_lose_nothing(tmp_path: Path) -> None:
    """Before and after each write, commit, send, ack and trim; a life may end before it comes to its point."""
    verdict, counts = attack(tmp_path, pointed_lives(1))
    assert verdict.sound, verdict
    assert counts["kills_at_a_named_point"] >= 0.8 * len(POINTS), counts["points_missed"]


@pytest.mark.slow
def test_deaths_during_recovery_lose_nothing(tmp_path: Path) -> None:
    """Four in a row after each death under load: what is half recovered is recovered once."""
    verdict, counts = attack(tmp_path, recovery_lives(4))
    assert counts["kills"] == 20
    assert verdict.sound, verdict


@pytest.mark.slow
def test_sixty_deaths_lose_nothing(tmp_path: Path) -> None:
    """The long run is `python -m moneylab.kills --lives 1000`; its figures are in benchmarks/results/faults.json."""
    verdict, _ = attack(tmp_path, random_lives(60))
    assert verdict.sound, verdict


@pytest.mark.slow
def test_deaths_of_the_plane_lose_nothing(tmp_path: Path) -> None:
    """Batches that were committed and never acked, or never committed: each record is ledgered once."""
    verdict, counts = attack(tmp_path, plane_lives(8))
    assert counts["plane_kills"] == 8
    assert verdict.sound, verdict
