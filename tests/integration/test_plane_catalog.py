"""A plane by itself goes by the operator's catalog, as the nodes that it has do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pareta
import pytest
import yaml
from catalogs import catalog, registry
from fakes.ports import free_port
from harness import AGENT, Agent, endpoint, environment, fake_engine, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
PAGE = (Path(__file__).parents[2] / "docs" / "operating" / "several-nodes.md").read_text()
TASK = {
    "kind": "task",
    "id": "invoice-total",
    "title": "Total of an invoice",
    "description": "Reads an invoice and returns the total amount that is due.",
    "scorer": "numeric",
    "examples": [{"input": "Two chairs at 40 EUR each. What is the total of the invoice?", "expected": "80"}],
    "aliases": [{"id": "invoice-1", "model": "tiny"}],
    "recommended": "invoice-1",
}


class Publisher:
    """A private catalog of one task, and the channel that it is promoted to."""

    def __init__(self, root: Path) -> None:
        self.root, self.documents = root, catalog(root, task="invoice-total")
        self.where = (root / "published").as_uri()
        self.write(TASK)
        registry("keygen", str(root / "key"))
        self.promote()

    def write(self, task: dict[str, object]) -> None:
        (self.documents / "task.yaml").write_text(yaml.safe_dump(task))

    def promote(self, *, signed: bool = True) -> None:
        key = ("--key", str(self.root / "key")) if signed else ()
        registry("promote", str(self.documents), str(self.root / "published"), *key)

    @property
    def settings(self) -> dict[str, str]:
        """A follower's."""
        return {
            "PARETA_REGISTRY_CATALOG": self.where,
            "PARETA_REGISTRY_CATALOG_KEYS": str(self.root / "key.pub"),
            "PARETA_REGISTRY_POLL_S": "0.2",
        }


@dataclass
class Plane:
    """`pareta-agent plane serve` under `home`. `said` is what it told when it listened."""

    home: Path
    settings: dict[str, str]

    def __post_init__(self) -> None:
        self.env = environment(self.home, **self.settings)
        argv = [*AGENT, "plane", "serve", "--port", "0"]
        with self.stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                argv, env=self.env, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.stderr.read_text()
        self.said = json.loads(line)
        self.url = f"http://127.0.0.1:{self.said['port']}"

    @property
    def stderr(self) -> Path:
        return self.home.with_suffix(".stderr")

    def command(self, *argv: str) -> str:
        done = subprocess.run([*AGENT, *argv], env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def client(self) -> pareta.Pareta:
        """Of an org with credit."""
        self.command("org", "create", "org_a")
        self.command("org", "topup", "5")
        return pareta.Pareta(api_key=self.command("keys", "create"), base_url=self.url, max_retries=0)

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=120)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    root = tmp_path / "publisher"
    root.mkdir()
    return Publisher(root)


@pytest.fixture
def start_plane(tmp_path: Path, publisher: Publisher) -> Iterator[Callable[[], Plane]]:
    planes: list[Plane] = []

    def begin() -> Plane:
        planes.append(Plane(tmp_path / "plane", publisher.settings))
        return planes[-1]

    yield begin
    for plane in planes:
        plane.stop()


@pytest.fixture
def start_node(tmp_path: Path, publisher: Publisher) -> Iterator[Callable[[Plane, str], Agent]]:
    agents: list[Agent] = []

    def begin(plane: Plane, name: str) -> Agent:
        token = tmp_path / f"{name}.token"
        token.write_text(plane.command("plane", "token", name))
        settings = {
            **publisher.settings,
            "PARETA_NODE": name,
            "PARETA_PLANE_URL": plane.url,
            "PARETA_PLANE_TOKEN_FILE": str(token),
            "PARETA_ENGINE_COMMAND": fake_engine(),
        }
        agents.append(Agent(tmp_path / name, settings=settings))
        agents[-1].wait_for("registered")
        return agents[-1]

    yield begin
    for agent in agents:
        agent.__exit__()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_private_task_is_matched_deployed_called_and_evaluated_over_two_nodes(
    start_plane: Callable[[], Plane], start_node: Callable[[Plane, str], Agent]
) -> None:
    """All that the SDK asks the plane for knows the private catalog, and no built-in task; both nodes answer calls,
    and go by what is changed of the endpoint."""
    plane = start_plane()
    with plane.client() as client:
        nodes = [start_node(plane, name) for name in ("n1", "n2")]
        assert [task.id for task in client.tasks.list()] == ["invoice-total"]
        found = client.tasks.match("what is the total amount due on this invoice?")
        assert (found.type, found.chosen.task_id) == ("task", "invoice-total")
        assert [model.name for model in client.tasks.leaderboard("invoice-total").models] == ["invoice-1"]
        with pytest.raises(pareta.NotFoundError):
            client.endpoints.deploy(task="contract-key-fields", wait=True)
        made = client.endpoints.deploy(task="invoice-total", wait=True)
        assert (made.id, made.model) == ("ep_invoice", "invoice-1")
        for node in nodes:
            with openai.OpenAI(base_url=node.ready()["base_url"], api_key=client.api_key) as caller:
                ask = {"model": made.id, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
                assert caller.chat.completions.create(**ask).choices
        rows = [{"input": "Two chairs at 40 EUR. What is the total?", "expected": "80"}]
        run = client.evals.runs.create(
            task="invoice-total", items=rows, models=["invoice-1"], wait=True, poll_interval=0.2
        )
        assert [(each.model_id, each.error_count) for each in run.results] == [("invoice-1", 0)]
        client.request("PATCH", f"/v1/endpoints/{made.id}", body={"idle_sleep_s": 900})
        for node in nodes:
            until(node, lambda seen: seen["idle_sleep_s"] == 900, made.id)
            assert endpoint(node, made.id)["status"] == "live"


def test_the_plane_follows_the_channel_and_its_keys(
    start_plane: Callable[[], Plane], publisher: Publisher
) -> None:
    """What is promoted is there without a restart; what is unsigned is refused, and told; without the registry it
    starts with what it took last."""
    plane = start_plane()
    assert (plane.said["catalog"]["source"], plane.said["catalog"]["serial"]) == (publisher.where, 1)
    with plane.client() as client:
        publisher.write(TASK | {"id": "receipt-total"})
        publisher.promote()
        eventually(lambda: [task.id for task in client.tasks.list()] == ["receipt-total"])
        publisher.write(TASK | {"id": "forged"})
        publisher.promote(signed=False)
        eventually(lambda: "event=catalog_refused code=signature_missing" in plane.stderr.read_text())
        assert [task.id for task in client.tasks.list()] == ["receipt-total"]
        key = client.api_key
    plane.stop()
    (publisher.root / "published").rename(publisher.root / "away")
    again = start_plane()
    assert (again.said["catalog"]["serial"], bool(again.said["catalog"]["trouble"])) == (2, True)
    with pareta.Pareta(api_key=key, base_url=again.url) as client:
        assert [task.id for task in client.tasks.list()] == ["receipt-total"]


def test_a_plane_that_cannot_follow_any_more_ends(start_plane: Callable[[], Plane]) -> None:
    """Rather than go by what was once: who keeps it running starts it again."""
    plane = start_plane()
    kept = plane.home / "catalog"
    kept.rename(plane.home / "moved")
    kept.write_text("no folder")
    assert plane.process.wait(120) != 0


def test_a_plane_without_a_catalog_does_not_start(tmp_path: Path, publisher: Publisher) -> None:
    """It ends as `serve` does, with the reason."""
    publisher.promote(signed=False)
    env = environment(tmp_path / "plane", **publisher.settings)
    argv = [*AGENT, "plane", "serve", "--port", "0"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (5, "")
    assert "is not signed" in done.stderr


def test_a_document_goes_to_whoever_gave_its_address(start_plane: Callable[[], Plane]) -> None:
    """Asked itself, the plane names itself."""
    plane = start_plane()
    with plane.client() as client:
        made = client.evals.sets.create(task="invoice-total", items=[{"input": "?", "expected": "80"}])
        place = {"idx": 0, "field_name": "scan", "mime": "image/png", "file_size": 4}
        promised = client.request("POST", f"/v1/eval-sets/{made.id}/blob-upload-url", body=place)
        assert promised["upload_url"].startswith(plane.url)
        assert httpx.put(promised["upload_url"], content=b"\x89PNG", timeout=120).status_code == 201


def test_a_call_that_is_a_nodes_is_no_route_of_the_plane(start_plane: Callable[[], Plane]) -> None:
    """And is told so, whatever its body says."""
    plane = start_plane()
    answer = httpx.post(f"{plane.url}/v1/chat/completions", json={"model": "ep_invoice"}, timeout=120)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "route_not_found")
    answer = httpx.put(f"{plane.url}/v1/tasks", timeout=120)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


CONTRACT = TASK | {
    "id": "contract-parties",
    "title": "Parties of a contract",
    "description": "Reads a contract and returns its parties and the date on which it expires.",
}


@pytest.mark.parametrize(
    ("database_url", "published"),
    [
        ("sqlite", True),
        pytest.param("postgresql", False, marks=pytest.mark.slow),
        pytest.param("sqlite", False, marks=pytest.mark.long),
        pytest.param("postgresql", True, marks=pytest.mark.long),
    ],
    indirect=["database_url"],
)
def test_the_page_does_what_it_says(
    tmp_path: Path, publisher: Publisher, database_url: str, published: bool
) -> None:
    """From an empty host to a call that a node answers: every block of it, with this machine's addresses and files.
    A reader without a registry of his own leaves its settings out."""
    port, front = free_port(), free_port()
    publisher.write(CONTRACT)
    publisher.promote()
    here = {
        "https://registry.example/": publisher.where,
        "postgresql://pareta@db.example/pareta": database_url,
        "/etc/pareta/team.key.pub": str(publisher.root / "key.pub"),
        "/etc/pareta/": f"{tmp_path}/",
        "10.0.0.5:8700": f"127.0.0.1:{port}",
        "--host 10.0.0.5 --port 8700": f"--host 127.0.0.1 --port {port}",
        "10.0.0.11:8000": f"127.0.0.1:{front}",
        'host = "10.0.0.11"': 'host = "127.0.0.1"',
        "port = 8000": f"port = {front}",
    }

    def moved(text: str) -> str:
        for there, that in here.items():
            text = text.replace(there, that)
        assert not re.search(r"10\.0\.0|example|/etc", text)
        return text

    def shell(home: str, commands: str) -> tuple[list[str], dict[str, Any]]:
        env = environment(tmp_path / home, PARETA_ENGINE_COMMAND=fake_engine())
        env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        argv = ["sh", "-e", "-c", commands]
        return argv, {"env": env, "cwd": tmp_path, "text": True, "stdout": subprocess.PIPE}

    for home, settings in zip(("plane", "node"), blocks("toml"), strict=True):
        (tmp_path / home).mkdir()
        if not published:
            settings = re.sub(r"\[registry\]\n(.+\n)+", "", settings)
        (tmp_path / home / "config.toml").write_text(moved(settings))
    serve_plane, operate, serve = (moved(commands) for commands in blocks("sh"))
    argv, options = shell("plane", f"exec {serve_plane}")
    with ExitStack() as running:
        plane = running.enter_context(subprocess.Popen(argv, **options))
        running.callback(plane.terminate)
        assert plane.stdout is not None
        source = json.loads(plane.stdout.readline())["catalog"]["source"]
        assert source == (publisher.where if published else "built in")
        argv, options = shell("plane", operate)
        done = subprocess.run(argv, **options, timeout=240, check=True)
        (key,) = re.findall(r"pareta_sk_\S+", done.stdout)
        argv, options = shell("node", f"exec {serve}")
        node = running.enter_context(subprocess.Popen(argv, **options))
        running.callback(node.terminate)
        argv, options = shell("plane", "pareta-agent plane nodes --json | grep gpu-1 | grep starting")
        eventually(lambda: subprocess.run(argv, **options, timeout=240).returncode == 0)
        (program,) = blocks("python")
        program = moved(program).replace("pareta_sk_…", key)
        done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, timeout=240)
        assert (done.returncode, bool(done.stdout.strip())) == (0, True), done.stderr
