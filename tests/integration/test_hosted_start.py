"""`serve` on a plane of its own: what it says while nothing is wanted, and how it ends where the plane refuses it."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from fakes.ports import free_port
from harness import AGENT, Agent, environment, fake_engine

pytestmark = pytest.mark.slow


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[str]:
    """The address of `pareta-agent plane serve`; its home is `tmp_path/plane`."""
    port, home = free_port(), tmp_path / "plane"
    argv = [*AGENT, "plane", "serve", "--home", str(home), "--port", str(port)]
    with subprocess.Popen(argv, env=environment(home), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["port"] == port
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def token(tmp_path: Path, node: str) -> str:
    home = tmp_path / "plane"
    argv = [*AGENT, "plane", "token", node, "--home", str(home), "--json"]
    done = subprocess.run(
        argv, env=environment(home), capture_output=True, text=True, timeout=120, check=True
    )
    made = json.loads(done.stdout)
    assert made["node"] == node
    return str(made["token"])


def settings(plane: str, tmp_path: Path, written: str | bytes) -> dict[str, str]:
    file = tmp_path / "node.token"
    file.write_bytes(written if isinstance(written, bytes) else written.encode())
    return {
        "PARETA_ENGINE_COMMAND": fake_engine(),
        "PARETA_PLANE_URL": plane,
        "PARETA_PLANE_TOKEN_FILE": str(file),
        "PARETA_NODE": "node-a",
    }


def test_a_node_of_which_nothing_is_wanted_says_where_it_listens(plane, tmp_path):
    """Once, with its plane; and `status` and `/readyz` agree that it is ready for what comes."""
    with Agent(tmp_path / "home", settings=settings(plane, tmp_path, token(tmp_path, "node-a"))) as agent:
        told = agent.wait_for("waiting_for_endpoints")
        assert told["plane"] == plane
        readyz = httpx.get(told["base_url"].removesuffix("/v1") + "/readyz", timeout=120)
        status = agent.status()
        assert (readyz.status_code, status["state"], status["reasons"]) == (200, "ready", [])
        assert agent.stop() == 0
        assert [event["event"] for event in agent.events].count("waiting_for_endpoints") == 1


def test_a_person_reads_where_it_listens(plane, tmp_path):
    """The same, in words, on standard error."""
    env = environment(tmp_path / "home", **settings(plane, tmp_path, token(tmp_path, "node-a")))
    argv = [*AGENT, "serve", "--port", "0"]
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("waiting for endpoints") for line in lines)
        assert "http://127.0.0.1:" in next(lines)
        assert plane in next(lines)
        process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize("written", ["", "\n", "two words", b"\xff\x00"])
def test_a_file_without_a_token_is_wrong_input(tmp_path, written):
    """It is refused at once, and the remedy names the command that makes one."""
    env = environment(tmp_path / "home", **settings("http://127.0.0.1:9", tmp_path, written))
    argv = [*AGENT, "serve", "--port", "0"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "token_invalid" in done.stderr) == (2, True)
    assert "pareta-agent plane token" in done.stderr


@pytest.fixture
def refusing() -> Iterator[Callable[[], str]]:
    """A plane that answers 401 to everybody."""

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(401)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield lambda: f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_refused_token_ends_a_start_with_a_remedy(refusing, tmp_path):
    """It tries a few times, for a plane may be starting itself; then it says what to do and ends with 7."""
    env = environment(tmp_path / "home", **settings(refusing(), tmp_path, "pareta_nt_of_another_plane"))
    argv = [*AGENT, "serve", "--port", "0"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, "plane_unauthorized" in done.stderr) == (7, True)
    assert "plane.token_file" in done.stderr
