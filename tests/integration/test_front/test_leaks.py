"""A canary where the weights would be: it must not leave the node in any byte that a caller or a scraper gets."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import random

import pytest

from pareta_agent.gateway.api.routes import INFERENCE

KEY = "pareta_sk_" + "a" * 32
CANARY = b"CANARY"
FAULTS = [
    (),
    ("--no-usage",),
    ("--error-then-done",),
    ("--abort-finish",),
    ("--cut-mid-stream",),
    ("--http-error", "400"),
    ("--http-error", "404"),
    ("--http-error", "422"),
    ("--http-error", "500"),
    ("--http-error", "503"),
    ("--max-model-len", "1"),
]
BODIES = [
    {},
    {"stream": True},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"n": 3},
    {"max_tokens": -1},
    {"max_tokens": "many"},
    {"messages": [{"role": "user"}]},
    {"prompt": {"a": 1}},
    {"input": None},
    {"return_token_ids": True, "chat_template": "{{ model }}", "priority": 1},
    {"model": "ep_none"},
    {"model": "/weights"},
    {"model": 3},
]
ROUTES = [
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/score",
    "/v1/rerank",
    "/pooling",
    "/v1/audio/transcriptions",
    "/tokenize",
    "/detokenize",
    "/tokenizer_info",
    "/v1/models",
    "/version",
    "/v1/../version",
    "/metrics",
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: " ".join(fault) or "sound")
async def test_no_byte_that_leaves_tells_the_weights(rig, fault):
    """Routes × bodies × an engine that puts its model's path wherever it can."""
    await rig.engine("--leak-canary", *fault)
    rig.endpoint(replicas=rig.endpoints["ep_x"].replicas, tokenize=True)
    told = []
    for route, more in itertools.product(ROUTES, BODIES):
        ask = {
            "model": "ep_x",
            "max_tokens": 3,
            "messages": [{"role": "user", "content": "hi"}],
            "prompt": "hi",
            "input": "hi",
            "text_1": "hi",
            "text_2": ["a", "b"],
            "query": "hi",
            "documents": ["a", "b"],
            "tokens": [1, 2],
        }
        told.append(await rig.raw(rig.post(json.dumps({**ask, **more}).encode(), route)))
    told.append(await rig.raw(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    told += [json.dumps(dataclasses.asdict(record), default=str).encode() for record in rig.spool.records]
    told += [repr(event).encode() for event in rig.events]
    assert [text for text in told if CANARY in text] == []
    assert all(text for text in told)


async def test_the_engine_of_these_tests_does_leak(rig):
    """The control: straight from its socket, errors, heads and metrics all tell."""
    replica = await rig.engine("--leak-canary", "--http-error", "500")
    for request in (b"POST /v1/chat/completions", b"GET /metrics"):
        reader, writer = await asyncio.open_unix_connection(str(replica.socket))
        writer.write(request + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert (CANARY in head, CANARY in body) == (True, True)


@pytest.mark.slow
async def test_no_fuzzed_request_crashes_or_leaks(rig):
    """Random damage to a good request: every answer is HTTP in the envelope, every admission has its record."""
    await rig.engine("--leak-canary")
    dice = random.Random(7)
    good = rig.post(b'{"model":"ep_x","messages":[{"role":"user","content":"hi"}],"max_tokens":2}')
    for _ in range(300):
        request = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(request))
            what = dice.choice(["flip", "drop", "double", "newline"])
            if what == "flip":
                request[at] = dice.randrange(256)
            elif what == "drop":
                del request[at : at + dice.randint(1, 20)]
            elif what == "double":
                request[at:at] = request[at : at + dice.randint(1, 30)]
            else:
                request[at:at] = dice.choice([b"\r\n", b"\n", b"\r", b"\x00"])
        answer = await exchange(rig, bytes(request))
        assert CANARY not in answer
        assert not answer or answer.startswith(b"HTTP/1.1 ")
    await rig.until(lambda: rig.front.in_flight == 0)
    assert len(rig.spool.admitted) == len(rig.spool.records)


HEADERS = [
    "x-request-id: /weights",
    "x-data-parallel-rank: 0",
    "x-vllm-priority: -1",
    "endpoint-load-metrics-format: TEXT",
    "anthropic-version: 2023-06-01",
    "accept: text/html",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
]
VALUES = [
    None,
    True,
    -1,
    10**9,
    0.5,
    "",
    "x" * 3000,
    "\u0000é🙂",
    [],
    ["a"],
    {},
    {"type": "x"},
    {"url": "http://x"},
]
FORM = (
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nep_x\r\n--b\r\n'
    b'content-disposition: form-data; name="file"; filename="/weights.wav"\r\n\r\nRIFF\r\n--b--\r\n'
)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: " ".join(fault) or "sound")
async def test_no_ask_makes_an_engine_tell(rig, fault):
    """Any field with any value, odd headers, both bodies, on each route before each broken engine."""
    await rig.engine("--leak-canary", *fault)
    rig.endpoint(replicas=rig.endpoints["ep_x"].replicas, tokenize=True)
    dice = random.Random(str(fault))
    for route in INFERENCE.values():
        for _ in range(12):
            ask = {"model": "ep_x", "max_tokens": 3, "stream": dice.random() < 0.5}
            ask |= (
                {"messages": [{"role": "user", "content": "hi"}]}
                if route.prompt == "messages"
                else {route.prompt: "hi"}
            )
            ask |= {route.documents: ["a", "b"]} if route.documents else {}
            ask |= {
                dice.choice([*route.fields, "kv_transfer_params", "model"]): dice.choice(VALUES)
                for _ in range(dice.randint(0, 3))
            }
            body = FORM if route.form else json.dumps(ask).encode()
            extra = "".join(f"{header}\r\n" for header in dice.sample(HEADERS, 2))
            request = rig.post(body, route.path, extra)
            if route.form:
                request = request.replace(b"application/json", b"multipart/form-data; boundary=b")
            answer = await rig.raw(request)
            assert answer.startswith(b"HTTP/1.1 "), (route.path, ask)
            assert CANARY not in answer, (route.path, ask)
    await rig.until(lambda: rig.front.in_flight == 0)
    left = [*rig.spool.admitted, *rig.spool.records, *rig.events]
    assert [repr(one) for one in left if CANARY.decode() in repr(one)] == []
    assert len(rig.spool.admitted) == len(rig.spool.records)


async def exchange(rig, request: bytes) -> bytes:
    """Sends, half-closes so that nothing is waited for, and reads what comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(request)
    try:
        async with asyncio.timeout(0.2):
            return await reader.read()
    except TimeoutError:
        return b""
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()
