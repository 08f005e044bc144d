"""Every no, as both clients see it: a typed error, a message that helps, a request id, and no record."""

from __future__ import annotations

import asyncio
import json

import openai
import pareta
import pytest

from pareta_agent.contract.grant import TokenPrice
from pareta_agent.errors import PlaneError

KEY = "pareta_sk_" + "a" * 32
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}]}


def openai_error(rig, key=KEY, **ask):
    with openai.OpenAI(api_key=key, base_url=f"{rig.url}/v1", max_retries=0) as client:
        try:
            client.chat.completions.create(**{**ASK, **ask})
        except openai.APIStatusError as error:
            return error
    raise AssertionError("no error was raised")


def pareta_error(rig, key=KEY, **ask):
    with pareta.Pareta(api_key=key, base_url=rig.url, max_retries=0) as client:
        try:
            client.chat.completions.create(**{**ASK, **ask})
        except pareta.APIStatusError as error:
            return error
    raise AssertionError("no error was raised")


def split(response: bytes):
    head, _, body = response.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    return int(line.split()[1]), headers, json.loads(body) if body else None


@pytest.mark.parametrize(
    ("key", "ask", "status", "code", "openai_type", "pareta_type"),
    [
        ("pareta_sk_nobody", {}, 401, "invalid_api_key", "AuthenticationError", "AuthenticationError"),
        ("pareta_sk_revoked", {}, 401, "invalid_api_key", "AuthenticationError", "AuthenticationError"),
        ("pareta_sk_poor", {}, 402, "insufficient_credit", "APIStatusError", "InsufficientCreditsError"),
        ("pareta_sk_other", {}, 403, "endpoint_forbidden", "PermissionDeniedError", "PermissionDeniedError"),
        ("pareta_sk_narrow", {}, 403, "endpoint_forbidden", "PermissionDeniedError", "PermissionDeniedError"),
        (KEY, {"model": "ep_none"}, 404, "endpoint_not_found", "NotFoundError", "NotFoundError"),
        (KEY, {"model": 7}, 400, "invalid_type", "BadRequestError", "BadRequestError"),
        (KEY, {"n": 0}, 400, "invalid_value", "BadRequestError", "BadRequestError"),
        (KEY, {"messages": [7]}, 400, "invalid_type", "BadRequestError", "BadRequestError"),
    ],
)
async def test_a_refusal_is_typed_for_both_clients(rig, key, ask, status, code, openai_type, pareta_type):
    """Status, code, message, `detail` and request id agree, and nothing is admitted."""
    await rig.engine()
    ours = await asyncio.to_thread(openai_error, rig, key, **ask)
    theirs = await asyncio.to_thread(pareta_error, rig, key, **ask)
    assert (ours.status_code, ours.code, type(ours).__name__) == (status, code, openai_type)
    assert (theirs.status_code, theirs.detail, type(theirs).__name__) == (
        status,
        ours.body["message"],
        pareta_type,
    )
    assert ours.request_id.startswith("req_")
    assert theirs.request_id.startswith("req_")
    assert rig.spool.admitted == []


@pytest.mark.parametrize(
    ("state", "retry_after_s", "code", "header", "should_retry"),
    [
        ("stopped", None, "endpoint_stopped", "5", "false"),
        ("failed", None, "endpoint_failed", "5", "false"),
        ("cold", 12, "endpoint_cold", "12", None),
        ("deploying", 40, "endpoint_cold", "40", None),
    ],
)
async def test_an_endpoint_that_is_not_live_is_a_503(
    start_rig, state, retry_after_s, code, header, should_retry
):
    """With Retry-After where nothing is held, and no retry where waiting does not help."""
    rig = await start_rig(hold_s=0)
    rig.endpoint(status=state, retry_after_s=retry_after_s)
    error = await asyncio.to_thread(openai_error, rig)
    theirs = await asyncio.to_thread(pareta_error, rig)
    headers = error.response.headers
    assert (type(error), error.code) == (openai.InternalServerError, code)
    assert type(theirs) is pareta.EndpointNotReadyError
    assert (headers["retry-after"], headers.get("x-should-retry")) == (header, should_retry)


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_json", None),
        (b"", 400, "invalid_json", None),
        (b"[1]", 400, "not_an_object", None),
        (b'"x"', 400, "not_an_object", None),
        (b'{"messages": []}', 400, "missing_field", "model"),
        (b'{"model": "", "messages": []}', 400, "invalid_type", "model"),
        (b'{"model": null, "messages": []}', 400, "missing_field", "model"),
        (b'{"model": "ep_x"}', 400, "missing_field", "messages"),
        (b'{"model": "ep_x", "messages": "hi"}', 400, "invalid_type", "messages"),
        (b'{"model": "ep_x", "messages": []}', 400, "invalid_type", "messages"),
        (b'{"model": "ep_x", "messages": [{}], "stream": 1}', 400, "invalid_type", "stream"),
        (b'{"model": "ep_x", "messages": [{}], "stream_options": 1}', 400, "invalid_type", "stream_options"),
        (b'{"model": "ep_x", "a":' + b"[" * 70 + b"]" * 70 + b"}", 400, "too_deep", None),
        (b'{"model": "\xff"}', 400, "invalid_json", None),
    ],
)
async def test_a_malformed_body_names_what_is_wrong(rig, body, status, code, param):
    """The first thing wrong, by code and param."""
    await rig.engine()
    got, _, answer = split(await rig.raw(rig.post(body)))
    assert (got, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)
    assert answer["detail"] == answer["error"]["message"]


async def test_a_remote_image_is_refused_and_an_inline_one_is_not(rig):
    """The node fetches nothing on a caller's word."""
    await rig.engine()

    def asking(url):
        part = {"type": "image_url", "image_url": {"url": url}}
        return json.dumps({"model": "ep_x", "messages": [{"role": "user", "content": [part]}]}).encode()

    remote = split(await rig.raw(rig.post(asking("http://169.254.169.254/latest"))))
    inline = split(await rig.raw(rig.post(asking("data:image/png;base64,AAAA"))))
    assert (remote[0], remote[2]["error"]["code"]) == (400, "remote_media")
    assert inline[0] == 200


@pytest.mark.parametrize("key", [b"Bearer pareta_sk_\xc3\xa9", b"Bearer", b"Basic abc", b"Bearer a b", b""])
async def test_a_key_that_is_no_key_is_a_401(rig, key):
    """Non-ASCII, empty, another scheme: told how to authenticate."""
    await rig.engine()
    body = json.dumps(ASK).encode()
    request = rig.post(body).replace(b"Bearer " + KEY.encode(), key)
    status, headers, answer = split(await rig.raw(request))
    assert (status, headers["www-authenticate"], answer["error"]["code"]) == (
        401,
        "Bearer",
        "invalid_api_key",
    )


async def test_a_spent_balance_is_a_402(rig):
    """The lease cannot cover the worst case; nothing runs."""
    await rig.engine()
    rig.price = TokenPrice(10**6, 10**6, 10**6)
    rig.balance_micro_usd = 100
    error = await asyncio.to_thread(pareta_error, rig, max_tokens=200)
    assert type(error) is pareta.InsufficientCreditsError
    assert rig.spool.admitted == []


async def test_a_completed_call_costs_what_it_used(rig):
    """What was reserved beyond the use returns to the lease."""
    await rig.engine()
    rig.price = TokenPrice(10**6, 10**6, 10**6)
    rig.balance_micro_usd = 1000
    ask = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 400}
    answers = [split(await rig.raw(rig.post(json.dumps(ask).encode()))) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 402]


@pytest.mark.parametrize("system_prompt", ["word " * 300, None])
async def test_a_crowd_with_dear_prompts_spends_no_more_than_was_leased(rig, system_prompt):
    """All at once, before any of them has cost anything: each holds what its prompt can cost at most, the task's own
    words with it."""
    await rig.engine()
    rig.endpoint(replicas=rig.endpoints["ep_x"].replicas, system_prompt=system_prompt)
    rig.engines[0].hold()
    rig.price, rig.balance_micro_usd = TokenPrice(10**6, 10**6, 10**6), 8000
    said = [{"role": "user", "content": "7 " * (1 if system_prompt else 600)}]
    body = json.dumps({"model": "ep_x", "messages": said, "max_tokens": 1}).encode()
    calls = [asyncio.create_task(rig.raw(rig.post(body))) for _ in range(40)]
    await rig.until(lambda: len(rig.spool.admitted) == rig.engines[0].running > 0)
    await rig.until(lambda: sum(call.done() for call in calls) + len(rig.spool.admitted) == 40)
    rig.engines[0].let_go()
    await asyncio.gather(*calls)
    spent = sum(record.tokens.input + record.tokens.output for record in rig.spool.records)
    assert 0 < spent <= 8000


async def test_one_key_cannot_have_everything(start_rig):
    """More at once than its limit is a 429 with Retry-After; an end makes room again."""
    rig = await start_rig(max_in_flight_per_key=1)
    await rig.engine()
    rig.engines[0].hold()
    body = json.dumps(ASK).encode()
    running = asyncio.create_task(rig.raw(rig.post(body)))
    await rig.until(lambda: rig.engines[0].running == 1)
    refused = split(await rig.raw(rig.post(body)))
    rig.engines[0].let_go()
    first = split(await running)
    again = split(await rig.raw(rig.post(body)))
    assert (refused[0], refused[2]["error"]["code"], refused[1]["retry-after"]) == (
        429,
        "too_many_requests",
        "5",
    )
    assert (first[0], again[0]) == (200, 200)


async def test_connections_beyond_the_limit_are_refused(start_rig):
    """Answered and closed, and the others go on."""
    rig = await start_rig(max_connections=2)
    held = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(2)]
    await asyncio.sleep(0.02)
    refused = split(await rig.raw(b""))
    held[0][1].write(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    served = split(await held[0][0].read())
    for _, writer in held:
        writer.close()
    assert (refused[0], served[0]) == (429, 200)


async def test_a_full_spool_stops_admission(rig):
    """Usage that cannot be recorded is not made."""
    await rig.engine()
    rig.spool.full = True
    error = await asyncio.to_thread(openai_error, rig)
    assert (error.status_code, error.code) == (503, "metering_unavailable")


async def test_a_record_that_is_not_saved_is_no_success(rig):
    """The caller gets a 503 rather than an answer that nobody counted."""
    await rig.engine()
    rig.spool.broken = True
    error = await asyncio.to_thread(openai_error, rig)
    assert (error.status_code, error.code) == (503, "metering_unavailable")


async def test_an_absent_plane_is_a_503_not_a_401(rig):
    """A key that cannot be checked is not called wrong."""
    await rig.engine()

    async def away(_digest):
        raise PlaneError("plane_away", "away")

    rig.front._deps.keys._introspect = away
    error = await asyncio.to_thread(openai_error, rig, "pareta_sk_new")
    assert (error.status_code, error.code) == (503, "auth_unavailable")


async def test_a_prompt_beyond_the_context_says_the_numbers(rig):
    """context_length_exceeded, with the engine's numbers and none of its words."""
    await rig.engine("--max-model-len", "5", "--leak-canary")
    messages = [{"role": "user", "content": "one two three four five six"}]
    error = await asyncio.to_thread(openai_error, rig, messages=messages)
    assert (error.status_code, error.code, error.param) == (400, "context_length_exceeded", "messages")
    assert "5 tokens" in error.body["message"]
    assert "6 tokens" in error.body["message"]
    assert "CANARY" not in error.response.text


async def test_a_value_the_engine_refuses_names_the_field(rig):
    """The engine's message is not passed on, its parameter is."""
    await rig.engine("--leak-canary")
    error = await asyncio.to_thread(openai_error, rig, max_tokens=-3)
    assert (error.status_code, error.code, error.param) == (400, "invalid_value", "max_tokens")
    assert "CANARY" not in error.response.text
    assert [r.outcome for r in rig.spool.records] == ["failed_server"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "route_not_found"),
        ("GET", "/v1/nothing", 404, "route_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/v1/load_lora_adapter", 404, "route_not_found"),
        ("POST", "/version", 405, "method_not_allowed"),
        ("POST", "//v1/chat/completions", 404, "route_not_found"),
        ("POST", "/v1/chat/completions//", 404, "route_not_found"),
        ("POST", "/v1/chat/completions#x", 404, "route_not_found"),
        ("POST", "/v1/chat%2Fcompletions", 404, "route_not_found"),
        ("POST", "/v1/./chat/completions", 404, "route_not_found"),
        ("POST", "http://x/v1/sleep", 404, "route_not_found"),
        ("GET", "/docs", 404, "route_not_found"),
        ("GET", "/openapi.json", 404, "route_not_found"),
    ],
)
async def test_what_is_not_a_route_is_refused_in_the_envelope(rig, method, path, status, code):
    """Exact match only, default deny."""
    request = (
        f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode()
    )
    got, headers, answer = split(await rig.raw(request))
    assert (got, answer["error"]["code"]) == (status, code)
    assert headers["x-request-id"].startswith("req_")
    allowed = {"/v1/models": {"GET", "HEAD"}, "/version": {"GET", "HEAD"}, "/v1/chat/completions": {"POST"}}
    assert set(headers.get("allow", "").split(", ")) == allowed.get(path, {""})


async def test_models_lists_the_orgs_live_endpoints_only(rig):
    """No other org's, none that is stopped, and nothing but five fields; the context is left out until it is known."""
    await rig.engine()
    rig.endpoint(id="ep_off", status="stopped")
    rig.endpoint(id="ep_b", org="org_b")
    head = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
    status, _, answer = split(await rig.raw(head.encode()))
    row = {
        "id": "ep_x",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "org_a",
        "max_model_len": 2048,
    }
    assert (status, answer) == (200, {"object": "list", "data": [row]})
    one = {
        name: split(await rig.raw(head.replace("models", f"models/{name}").encode()))
        for name in rig.endpoints
    }
    assert (one["ep_x"][0], one["ep_x"][2]) == (200, row)
    assert {name: got[0] for name, got in one.items()} == {"ep_x": 200, "ep_off": 404, "ep_b": 403}
    rig.endpoint(max_model_len=None)
    unknown = split(await rig.raw(head.replace("models", "models/ep_x").encode()))[2]
    assert unknown == {name: value for name, value in row.items() if name != "max_model_len"}


async def test_readiness_says_why_not(rig):
    """503 with reasons, then 200; liveness is 200 all along."""
    ask = b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    rig.front.set_ready("no endpoint is live")
    before = split(await rig.raw(ask % b"/readyz"))
    alive = split(await rig.raw(ask % b"/livez"))
    rig.front.set_ready()
    after = split(await rig.raw(ask % b"/readyz"))
    assert (before[0], before[2]["reasons"]) == (503, ["no endpoint is live"])
    assert (alive[0], after[0]) == (200, 200)
