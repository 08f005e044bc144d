"""OpenAPI: writes the plane's two descriptions, committed beside this file: the nodes' wire and the public API.

`python -m pareta_agent.plane.openapi_documents` writes both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from pareta_agent.contract import wire
from pareta_agent.plane import public_app
from pareta_agent.plane.api.node_api import router

COMMITTED = Path(__file__).with_name("openapi.json")
PUBLIC = Path(__file__).with_name("public_openapi.json")


def document() -> str:
    app = FastAPI(title="Pareta node wire", version=str(wire.VERSION))
    app.include_router(router)
    return _text(app.openapi())


def public_document() -> str:
    return _text(public_app.description())


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    COMMITTED.write_text(document())
    PUBLIC.write_text(public_document())
