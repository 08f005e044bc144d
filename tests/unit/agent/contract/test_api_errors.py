"""The catalogue of refusals."""

import json
from pathlib import Path

import pytest

from pareta_agent.contract import api_errors
from pareta_agent.contract.api_errors import CATALOGUE, Problem, body_of, event_of, headers_of


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_each_code_renders_for_both_clients(code):
    """`error` with all four keys, and the same words in `detail`."""
    body = json.loads(body_of(Problem(code, param="model")))
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["code"], body["error"]["param"]) == (code, "model")
    assert body["detail"] == body["error"]["message"] == CATALOGUE[code][2]
    assert 400 <= Problem(code).status < 600


def test_no_code_is_kept_for_nothing():
    """Each one is said by the front, or by the plane's public API."""
    room = Path(api_errors.__file__).parent
    files = [*room.glob("*.py"), *(room.parent / "plane").rglob("*.py")]
    said = "".join(file.read_text() for file in files if file.name != "envelope.py")
    assert [code for code in CATALOGUE if f'"{code}"' not in said] == []


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (Problem("endpoint_cold"), [(b"retry-after", b"5")]),
        (Problem("endpoint_cold", retry_after_s=0), [(b"retry-after", b"0")]),
        (Problem("endpoint_busy", retry_after_s=9), [(b"retry-after", b"9")]),
        (Problem("invalid_api_key"), [(b"www-authenticate", b"Bearer")]),
        (Problem("insufficient_credit", retry=False), [(b"x-should-retry", b"false")]),
        (Problem("invalid_json"), []),
    ],
)
def test_headers_say_how_to_come_back(problem, expected):
    """Retry-After on 429 and 503, WWW-Authenticate on 401, x-should-retry where it matters."""
    assert headers_of(problem) == expected


def test_an_event_is_one_sse_event():
    """One data line, one blank line, the error object inside."""
    event = event_of(Problem("engine_failed"))
    assert event.startswith(b"data: {")
    assert event.count(b"\n\n") == 1
    assert json.loads(event[6:])["error"]["code"] == "engine_failed"
