"""The caller's own id of a request: repeated and recorded beside the node's, which stays the unique one."""

from __future__ import annotations

import json

import pytest

from pareta_agent.contract.usage_event import finished

BODY = json.dumps(
    {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
).encode()
STREAM = BODY[:-1] + b', "stream": true}'


@pytest.fixture(params=[0, pytest.param(2, marks=pytest.mark.slow)])
def workers(request):
    return request.param


def headers_of(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("name", ["x-request-id", "X-Request-Id", "x-client-request-id"])
async def test_the_callers_id_is_repeated_and_recorded(rig, name):
    """On answers, streams and refusals, and in the event of the record; two calls may have the same one."""
    await rig.engine()
    given = "trace-7/a:b=c"
    answers = [
        await rig.raw(rig.post(body, extra=f"{name}: {given}\r\n")) for body in (BODY, STREAM, BODY, b"{}")
    ]
    probe = await rig.raw(
        f"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{name}: {given}\r\n\r\n".encode()
    )
    heads = [headers_of(answer) for answer in (*answers, probe)]
    assert [head["x-client-request-id"] for head in heads] == [given] * 5
    assert len({head["x-request-id"] for head in heads}) == 5
    assert all(head["x-request-id"].startswith("req_") for head in heads)
    events = [json.loads(finished(record).data) for record in rig.spool.records]
    assert [event["client_request_id"] for event in events] == [given] * 3
    assert [event["request_id"] for event in events] == [head["x-request-id"] for head in heads[:3]]
    assert [list(event) for event in events] == [sorted(event) for event in events]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "\u00e9"])
async def test_what_is_no_id_is_ignored(rig, given):
    """It is not repeated, not recorded, and refuses nothing."""
    await rig.engine()
    request = rig.post(BODY, extra=f"x-request-id: {given}\r\n")
    answer = await rig.raw(request)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert "x-client-request-id" not in headers_of(answer)
    (record,) = rig.spool.records
    assert "client_request_id" not in json.loads(finished(record).data)


async def test_ids_of_the_same_caller_do_not_mix(rig):
    """Heads that differ in their id alone are different requests."""
    await rig.engine()
    keep = rig.post(BODY).replace(b"connection: close\r\n", b"")
    first = keep.replace(b"host: x\r\n", b"host: x\r\nx-request-id: one\r\n")
    second = rig.post(BODY, extra="x-request-id: two\r\n")
    answer = await rig.raw(first + first + keep + second)
    assert answer.count(b"x-client-request-id: one") == 2
    assert answer.count(b"x-client-request-id: two") == 1
    assert sorted(r.client_request_id for r in rig.spool.records) == ["", "one", "one", "two"]
