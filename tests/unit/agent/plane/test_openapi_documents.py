"""OpenAPI: the committed descriptions match the code."""

from __future__ import annotations

import json

from pareta_agent.gateway.asgi.plane_proxy import ROUTES
from pareta_agent.plane.openapi_documents import COMMITTED, PUBLIC, document, public_document
from pareta_agent.plane.public_app import DESCRIPTION


def test_the_committed_documents_are_current() -> None:
    """After a change: `python -m pareta_agent.plane.openapi_documents`."""
    assert document() == COMMITTED.read_text()
    assert public_document() == PUBLIC.read_text()


def test_the_front_passes_on_what_is_described_and_nothing_else() -> None:
    """The gateway forwards each described path and method, and the description."""
    described = {
        path: sorted(map(str.upper, item)) for path, item in json.loads(PUBLIC.read_text())["paths"].items()
    }
    assert {path: sorted(methods) for path, methods in ROUTES} == described | {DESCRIPTION: ["GET"]}
