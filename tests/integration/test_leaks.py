"""Nothing of the weights leaves the node: a word is planted wherever they are named, and looked for in every byte."""

import contextlib
import json
import shutil
import socket
import sqlite3
import subprocess
import threading

import httpx
import pytest
from catalogs import catalog
from harness import AGENT, Agent, environment, fake_engine

from pareta_agent.gateway.api.routes import INFERENCE, TRANSCRIPTIONS

pytestmark = pytest.mark.slow

PLANTED = "xqleakword"
FAULTS = (
    (),
    pytest.param(("--error-then-done",), marks=pytest.mark.long),
    ("--cut-mid-stream",),
    pytest.param(("--abort-finish",), marks=pytest.mark.long),
    ("--http-error", "400"),
    pytest.param(("--http-error", "500"), marks=pytest.mark.long),
)


@pytest.fixture(params=FAULTS, ids=" ".join)
def agent(request, tmp_path):
    """A node whose home, catalog, model id and artifact all carry the word, on an engine that says its --model."""
    root = tmp_path / PLANTED
    root.mkdir()
    documents = catalog(root, model=f"{PLANTED}-8b")
    command = fake_engine("--leak-canary", *request.param)
    allow_tokens(documents)
    with Agent(
        root / "home",
        *("--catalog", str(documents), "--task", "secret-task", "--no-canary"),
        settings={"PARETA_ENGINE_COMMAND": command},
    ) as agent:
        yield agent


def allow_tokens(documents):
    """Lets callers ask for tokens too."""
    task = documents / "task.yaml"
    task.write_text(task.read_text().replace("  - id: alias-1\n", "  - id: alias-1\n    tokenize: true\n"))


FORM = b"".join(
    b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % part
    for part in ((b"model", b"", b"ep_secret_task"), (b"file", b'; filename="a.wav"', b"RIFF"))
)


def every_route(key: str, model: str) -> list[bytes]:
    """A sound request of each inference route, streamed too where it streams, and its form where it takes one."""
    turns = [{"role": "user", "content": "hi"}]
    asks = {
        "/v1/chat/completions": {"messages": turns},
        "/v1/chat/completions/batch": {"messages": [turns, turns]},
        "/v1/completions": {"prompt": ["hi", "ho"]},
        "/v1/responses": {"input": "hi", "max_output_tokens": 4},
        "/v1/messages": {"messages": turns},
        "/v1/messages/count_tokens": {"messages": turns},
        "/v1/embeddings": {"input": ["hi", "ho"]},
        "/pooling": {"input": "hi"},
        "/v1/score": {"text_1": "hi", "text_2": ["a", "b"]},
        "/v1/rerank": {"query": "hi", "documents": ["a", "b"]},
        "/tokenize": {"prompt": "hi", "return_token_strs": True},
        "/detokenize": {"tokens": [1, 2]},
    }
    asks = {
        path: ask if "max_output_tokens" in ask else {"max_tokens": 4, **ask} for path, ask in asks.items()
    }
    assert {route.path for route in INFERENCE.values()} == {*asks, TRANSCRIPTIONS.path}
    form = FORM.replace(b"ep_secret_task", model.encode()) + b"--b--\r\n"
    heard = post(TRANSCRIPTIONS.path, key, form).replace(
        b"application/json", b"multipart/form-data; boundary=b", 1
    )
    whole = [post(path, key, {"model": model, **ask}) for path, ask in asks.items()]
    streamed = [
        post(route.path, key, {"model": model, "stream": True, **asks[route.path]})
        for route in set(INFERENCE.values())
        if route.streams and not route.form
    ]
    told = heard.replace(
        b"--b--", b'--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--b--'
    )
    told = told.replace(
        b"Content-Length: %d" % len(form), b"Content-Length: %d" % (len(form) + len(told) - len(heard))
    )
    return [*whole, *streamed, heard, told]


def raw(address: tuple[str, int], request: bytes) -> bytes:
    """Everything that comes back until the connection ends, heads and framing included."""
    with socket.create_connection(address, timeout=120) as sock:
        sock.sendall(request)
        answer = b""
        while part := sock.recv(65536):
            answer += part
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
        *every_route(key, chat["model"]),
        *[get(path, key) for path in ("/v1/models", "/metrics", "/readyz", "/livez", "/version", "/nothing")],
        *[
            get(path, key)
            for path in ("/v1/models/x", "//v1/models", "/%76ersion", "/server_info", "/tokenizer_info")
        ],
    ]
    told = {request: raw((url.host, url.port), request) for request in requests}
    assert [answer for answer in told.values() if not answer] == []
    assert [name for name, answer in told.items() if PLANTED.encode() in answer.lower()] == []
    usage = agent.usage()
    agent.stop()
    assert PLANTED not in json.dumps(usage)
    assert PLANTED not in dump(agent.home / "plane" / "plane.db")
    assert PLANTED not in dump(agent.home / "spool" / "spool.db")


class Tee:
    """A plain TCP relay before the plane: everything that the node says to it is kept."""

    def __init__(self, port: int) -> None:
        self.said = b""
        self._there = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._there))
            for source, target, keep in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, target, keep), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, keep: bool) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                self.said += part if keep else b""
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
        source.close()

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> "Tee":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def standalone(tmp_path):
    """Starts the plane of the node under `home` by itself, with a tee before it."""
    started = []

    def start():
        argv = [*AGENT, "plane", "serve", "--port", "0"]
        env = environment(tmp_path / "home")
        plane = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
        started.append((plane, Tee(json.loads(plane.stdout.readline())["port"])))
        return started[0][1]

    yield start
    for plane, tee in started:
        tee.close()
        plane.terminate()
        plane.communicate(timeout=120)


def test_nothing_that_the_plane_or_a_log_gets_names_the_weights(tmp_path, standalone):
    """Registration, heartbeats with what is observed, records, and the node's own log at info; nor their digest."""
    root, home = tmp_path / PLANTED, tmp_path / "home"
    root.mkdir()
    wish = ("--catalog", str(catalog(root, model=f"{PLANTED}-8b")), "--task", "secret-task", "--no-canary")
    command = {"PARETA_ENGINE_COMMAND": fake_engine("--leak-canary")}
    allow_tokens(root / "catalog")
    with Agent(home, *wish, settings=command) as first:
        key = first.ready()["api_key"]
    [digest] = (path.name.partition("-")[2] for path in (home / "weights").glob("sha256-*") if path.is_dir())
    tee = standalone()
    told = {
        "PARETA_PLANE_URL": f"http://127.0.0.1:{tee.port}",
        "PARETA_PLANE_TOKEN_FILE": str(home / "plane" / "node.token"),
    }
    with Agent(home, *wish, settings={**command, **told}) as second:
        ready = second.ready()
        url = httpx.URL(ready["base_url"])
        asks = every_route(key, ready["endpoints"][0]["id"])
        answers = [raw((url.host, url.port), ask) for ask in asks]
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * len(asks)
    assert tee.said.count(b"ai.pareta.inference.finished") >= len(asks)
    for said in (tee.said.decode(errors="replace"), first.stderr(), second.stderr(), str(answers)):
        assert [word for word in (PLANTED, digest) if word in said.lower()] == []


def dump(database) -> str:
    copy = database.with_suffix(".copy")
    shutil.copy(database, copy)
    connection = sqlite3.connect(copy)
    try:
        return "\n".join(connection.iterdump()).lower()
    finally:
        connection.close()
