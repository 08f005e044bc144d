"""The same requests to the engine itself and through the agent: what differs is in a table, and each row is meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fidelity import CORPUS, Ask, differences, events_of, in_order, rows

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

TRIES = 4
# A few asks show every row of the table; refusals cost nothing.
FEW = (
    *(
        "plain",
        "stream",
        "continuous usage",
        "logprobs, streamed",
        "json_schema",
        "tools, named",
        "tool, forced",
    ),
    *("echo alone", "ids of tokens", "turns", "thinking, off", "n, seeded", "content parts"),
)
TABLE = Path(__file__).parents[1] / "data" / "fidelity.md"


def said(answer: httpx.Response) -> Any:
    """Status, kind and content of an answer as one value."""
    kind = answer.headers["content-type"]
    content = (
        in_order(events_of(answer.text)) if kind.startswith("text/event-stream") else json.loads(answer.text)
    )
    return {"status": answer.status_code, "content-type": kind, "body": content}


def pieces(answer: Any) -> int:
    """How many events a stream was; 0 where it was a document."""
    return len(answer["body"]) if isinstance(answer["body"], list) else 0


def found(ask: Ask, direct: httpx.Client, through: httpx.Client, model: str) -> set[tuple[str, str, str]]:
    body = {key: value for key, value in ask.built(model).items() if value is not None}
    for _ in range(
        TRIES
    ):  # an engine whose server is slow joins tokens, so two streams may come in other pieces
        before, after = (said(client.post(ask.path, json=body)) for client in (direct, through))
        if pieces(before) == pieces(after):
            break
    if after["status"] >= 400:  # errors are the catalogue's: only their status is compared
        before["body"] = after["body"] = None
    return {(ask.path, place, what) for place, what in differences(before, after)}


@pytest.mark.parametrize("corpus", ["few", pytest.param("whole", marks=pytest.mark.long)])
def test_what_differs_is_what_the_table_says(vllm_node, engine_socket, corpus):
    """No difference without a row, no row without a difference."""
    asks = [ask for ask in CORPUS if corpus == "whole" or ask.name in FEW or ask.name.startswith("error: ")]
    direct = httpx.Client(
        transport=httpx.HTTPTransport(uds=str(engine_socket)), base_url="http://engine", timeout=240
    )
    through = httpx.Client(
        base_url=vllm_node.root, headers={"authorization": f"Bearer {vllm_node.key}"}, timeout=240
    )
    seen: dict[tuple[str, str, str], list[str]] = {}
    with direct, through:
        for ask in asks:
            for row in found(ask, direct, through, vllm_node.endpoint):
                seen.setdefault(row, []).append(ask.name)
    told = rows(TABLE.read_text())
    assert {row: seen[row] for row in seen.keys() - told} == {}
    assert told - seen.keys() == set()
