"""Nothing of the weights leaves the node: a word is planted wherever they are named, and looked for in every byte."""

import json
import shutil
import socket
import sqlite3

import httpx
import pytest
from catalogs import catalog
from harness import Agent, fake_engine

pytestmark = pytest.mark.slow

PLANTED = "xqleakword"
FAULTS = (
    (),
    ("--error-then-done",),
    ("--cut-mid-stream",),
    ("--abort-finish",),
    ("--http-error", "400"),
    ("--http-error", "500"),
)


@pytest.fixture(params=FAULTS, ids=" ".join)
def agent(request, tmp_path):
    """A node whose home, catalog, model id and artifact all carry the word, on an engine that says its --model."""
    root = tmp_path / PLANTED
    root.mkdir()
    documents = catalog(root, model=f"{PLANTED}-8b")
    command = fake_engine("--leak-canary", *request.param)
    with Agent(
        root / "home",
        *("--catalog", str(documents), "--task", "secret-task", "--no-canary"),
        settings={"PARETA_ENGINE_COMMAND": command},
    ) as agent:
        yield agent


def raw(address: tuple[str, int], request: bytes) -> bytes:
    """Everything that comes back until the connection is quiet, heads and framing included."""
    with socket.create_connection(address, timeout=5) as sock:
        sock.sendall(request)
        answer = b""
        try:
            while part := sock.recv(65536):
                answer += part
        except TimeoutError:
            pass
    return answer


def post(path: str, key: str, body: object) -> bytes:
    document = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(document)}\r\n\r\n"
    ).encode() + document


def get(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n".encode()


def test_no_byte_that_leaves_the_node_names_the_weights(agent):
    """Answers, heads, streams, errors, metrics, ledger and wire, on a sound engine and on broken ones."""
    ready = agent.ready()
    url, key = httpx.URL(ready["base_url"]), ready["api_key"]
    chat = {
        "model": ready["endpoints"][0]["id"],
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 4,
    }
    requests = [
        post("/v1/chat/completions", key, chat),
        post("/v1/chat/completions", key, {**chat, "stream": True}),
        post("/v1/chat/completions", key, {**chat, "max_tokens": -1}),
        post("/v1/chat/completions", key, {**chat, "messages": "x"}),
        post("/v1/chat/completions", key, b"{"),
        post("/v1/completions", key, {"model": chat["model"], "prompt": "hi", "max_tokens": 4}),
        post("/v1/completions", key, {"model": "/", "prompt": "hi"}),
        *[get(path, key) for path in ("/v1/models", "/metrics", "/readyz", "/livez", "/version", "/nothing")],
        *[
            get(path, key)
            for path in ("/v1/models/x", "//v1/models", "/%76ersion", "/server_info", "/tokenizer_info")
        ],
    ]
    told = {request[:60]: raw((url.host, url.port), request) for request in requests}
    assert [answer for answer in told.values() if not answer] == []
    assert [name for name, answer in told.items() if PLANTED.encode() in answer.lower()] == []
    usage = agent.usage()
    agent.stop()
    assert PLANTED not in json.dumps(usage)
    assert PLANTED not in dump(agent.home / "plane" / "plane.db")
    assert PLANTED not in dump(agent.home / "spool" / "spool.db")


def dump(database) -> str:
    copy = database.with_suffix(".copy")
    shutil.copy(database, copy)
    connection = sqlite3.connect(copy)
    try:
        return "\n".join(connection.iterdump()).lower()
    finally:
        connection.close()
