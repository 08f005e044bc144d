"""The committed description of the inference API is the one that the route table makes."""

from pareta_agent.front.openapi import COMMITTED, document


def test_the_committed_document_is_current():
    """After a change: `python -m pareta_agent.front.openapi > agent/pareta_agent/front/openapi.json`."""
    assert document() == COMMITTED.read_text()
