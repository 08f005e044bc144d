"""The committed description of the wire is the one that the code speaks."""

from __future__ import annotations

from pareta_agent.plane.openapi import COMMITTED, document


def test_the_committed_document_is_current() -> None:
    """After a change: `python -m pareta_agent.plane.openapi > agent/pareta_agent/plane/openapi.json`."""
    assert document() == COMMITTED.read_text()
