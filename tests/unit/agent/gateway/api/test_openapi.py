"""The committed description of the inference API is the one that the route table makes."""

from pareta_agent.gateway.api.openapi import COMMITTED, document


def test_the_committed_document_is_current():
    """After a change: `python -m pareta_agent.gateway.api.openapi > agent/pareta_agent/gateway/api/openapi.json`."""
    assert document() == COMMITTED.read_text()
