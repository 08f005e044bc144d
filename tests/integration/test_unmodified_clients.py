"""Clients as they come, each with its own reading of HTTP: the JDK's, curl, a page in a browser, nginx and HAProxy."""

from __future__ import annotations

import csv
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from fakes.ports import free_port
from harness import Agent, fake_engine

CLIENTS = Path(__file__).parents[1] / "clients"
pytestmark = pytest.mark.slow
CHAT = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 16}


def program(name: str) -> str:
    if found := shutil.which(name) or shutil.which(name, path="/usr/sbin"):
        return found
    pytest.skip(f"{name} is not installed (make tools)")


def said(*argv: str, timeout_s: float = 300.0) -> str:
    done = subprocess.run(argv, cwd=CLIENTS, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def page_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def node(tmp_path_factory, page_port) -> Iterator[dict[str, str]]:
    home = tmp_path_factory.mktemp("clients") / "home"
    settings = {
        "PARETA_ENGINE_COMMAND": fake_engine(),
        "PARETA_FRONT_CORS_ORIGINS": f"http://127.0.0.1:{page_port}",
    }
    with Agent(home, settings=settings) as agent:
        ready = agent.ready()
        yield {"url": ready["base_url"], "key": ready["api_key"], "model": ready["endpoints"][0]["id"]}


def test_the_jdks_client_is_answered(node):
    """It offers HTTP/2 with each request, and takes HTTP/1.1: a call, a stream, a list."""
    lines = said(program("java"), "Chat.java", *node.values()).splitlines()
    assert [line.split()[:2] for line in lines] == [["200", "HTTP_1_1"]] * 3
    assert [word in line for word, line in zip(("Paris", "[DONE]", node["model"]), lines, strict=True)] == [
        True
    ] * 3


def test_curl_that_offers_http_2_is_answered(node):
    """The same offer, with a body and without."""
    auth = f"Authorization: Bearer {node['key']}"
    ask = json.dumps({**CHAT, "model": node["model"]})
    common = [
        program("curl"),
        "--http2",
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "120",
        "-H",
        auth,
    ]
    told = said(*common, "-H", "Content-Type: application/json", "-d", ask, f"{node['url']}/chat/completions")
    listed = said(*common, f"{node['url']}/models")
    assert "Paris" in json.loads(told)["choices"][0]["message"]["content"]
    assert json.loads(listed)["data"][0]["id"] == node["model"]


def test_a_page_of_an_allowed_origin_uses_the_openai_client(node, page_port):
    """In a real Chromium: answers, streams, typed errors and request ids; a page of another origin gets nothing."""
    program("chromium")
    if not (CLIENTS / "node_modules" / "playwright-core").is_dir():
        pytest.skip("playwright-core is not installed (make tools)")
    seen = json.loads(said(program("node"), "browser.mjs", *node.values(), str(page_port)))
    page = seen["127.0.0.1"]
    assert page["failed"] is None
    assert "Paris" in page["text"]
    assert page["streamed"] == page["text"]
    assert page["requestID"].startswith("req_")
    assert page["models"] == [node["model"]]
    assert (page["key"]["name"], page["key"]["status"]) == ("AuthenticationError", 401)
    assert (page["body"]["name"], page["body"]["status"]) == ("BadRequestError", 400)
    assert page["body"]["requestID"].startswith("req_")
    assert seen["localhost"]["failed"]["name"] == "APIConnectionError"


NGINX = """daemon off; pid {dir}/pid; error_log {dir}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{node}; }} }}
}}
"""
HAPROXY = """global
  stats socket {dir}/stats
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
backend nodes
  option httpchk{probe}
  server node {node} check inter 100ms
"""


@contextmanager
def running(*argv: str, log: Path) -> Iterator[None]:
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as process:
        try:
            yield
        finally:
            process.terminate()


def address_of(url: str) -> str:
    return url.removeprefix("http://").removesuffix("/v1")


STREAMS = {
    "/chat/completions": CHAT,
    "/completions": {"prompt": "The capital of France is", "max_tokens": 16},
    "/responses": {"input": "What is the capital of France?", "max_output_tokens": 16},
    "/messages": CHAT,
}


def test_a_stream_is_not_held_back_by_nginx(tmp_path):
    """With nginx as it comes, which collects answers: the first words are there while the engine is still at work."""
    nginx, port = program("nginx"), free_port()
    with Agent(
        tmp_path / "home", settings={"PARETA_ENGINE_COMMAND": fake_engine("--stall-mid-stream")}
    ) as agent:
        ready = agent.ready()
        config = tmp_path / "nginx.conf"
        config.write_text(NGINX.format(dir=tmp_path, port=port, node=address_of(ready["base_url"])))
        proxied = {"base_url": f"http://127.0.0.1:{port}/v1", "timeout": 300}
        proxied["headers"] = {"authorization": f"Bearer {ready['api_key']}"}
        with running(nginx, "-c", str(config), log=tmp_path / "nginx.log"), httpx.Client(**proxied) as client:
            up(client)
            for path, ask in STREAMS.items():
                body = {**ask, "model": ready["endpoints"][0]["id"], "stream": True}
                with client.stream("POST", path, json=body) as answer:
                    assert answer.status_code == 200
                    pieces = answer.iter_text()
                    first = next(pieces)
                    in_flight = httpx.get(ready["metrics_url"], timeout=60).text
                assert "data: " in first, path
                assert 'pareta_requests_in_flight{endpoint="ep_contract_kie"} 1.0' in in_flight, path


def up(client: httpx.Client) -> None:
    """Waits until nginx listens."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            client.get("/models")
        except httpx.ConnectError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nginx does not listen")


@pytest.mark.parametrize("probe", ["", " /readyz", " GET /health", " GET /v1/models/"])
def test_haproxy_finds_a_node_healthy_as_it_probes_by_itself(node, tmp_path, probe):
    """OPTIONS or GET over HTTP/1.0 without a Host; a route that needs a key refuses, in HTTP."""
    config = tmp_path / "haproxy.cfg"
    config.write_text(HAPROXY.format(dir=tmp_path, probe=probe, node=address_of(node["url"])))
    with running(program("haproxy"), "-f", str(config), log=tmp_path / "haproxy.log"):
        status = checked(tmp_path / "stats")
    assert status == (("L7STS", "401") if "models" in probe else ("L7OK", "200"))


def checked(stats: Path) -> tuple[str, str]:
    """What HAProxy found at its check of the node, and the status that it got."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as asked, suppress(OSError):
            asked.connect(str(stats))
            asked.sendall(b"show stat\n")
            text = asked.makefile().read().removeprefix("# ")
            row = next(row for row in csv.DictReader(text.splitlines()) if row["svname"] == "node")
            if row["check_status"].startswith("L7"):
                return row["check_status"], row["check_code"]
        time.sleep(0.05)
    raise AssertionError("HAProxy has not checked")
