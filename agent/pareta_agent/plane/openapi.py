"""The wire as an OpenAPI document: `python -m pareta_agent.plane.openapi` prints what is committed beside this file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fastapi import FastAPI

from pareta_agent.control import wire
from pareta_agent.plane.node_api import router

COMMITTED = Path(__file__).with_name("openapi.json")


def document() -> str:
    app = FastAPI(title="Pareta node wire", version=str(wire.VERSION))
    app.include_router(router)
    return json.dumps(app.openapi(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
