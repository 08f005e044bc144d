"""A node that follows a published catalog: what changes is deployed anew, what is not trusted is not taken, and
without the registry it goes on with what it has."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from catalogs import checkpoint, registry
from fakes.oci_registry import Registry, needs_registry
from fakes.ports import free_port
from harness import AGENT, Agent, environment, fake_engine

from pareta_registry.importers.hf_checkpoint import import_checkpoint

pytestmark = pytest.mark.slow
ENDPOINTS = [{"id": f"ep_{name}", "task": name} for name in ("first", "second")]


class Publisher:
    """Two tasks on two models of one artifact; `promote` publishes them as they are now."""

    def __init__(self, root: Path) -> None:
        self.root, self.documents = root, root / "documents"
        self.model = import_checkpoint(str(checkpoint(root / "checkpoint")), root / "artifact")
        self.documents.mkdir()
        for name in ("first", "second"):
            self.write(name)
        registry("keygen", str(root / "key"))

    def write(self, name: str, **changes: Any) -> None:
        task = {
            "kind": "task",
            "id": name,
            "title": name,
            "aliases": [{"id": f"{name}-1", "model": name}],
            "recommended": f"{name}-1",
        }
        model = self.model | {"id": name, "license": "MIT"} | changes
        (self.documents / f"{name}.yaml").write_text(yaml.safe_dump_all([task, model]))

    def promote(self, where: str, *, catalog: str = "", signed: bool = True) -> str:
        """The digest of the catalog that the channel now means."""
        key = ("--key", str(self.root / "key")) if signed else ()
        argv = ("promote", catalog or str(self.documents), where, *key, "--json")
        return str(json.loads(registry(*argv))["catalog"])


class Node:
    """An agent on the fake engine that looks at the channel all the time."""

    def __init__(self, home: Path, where: str, keys: Path) -> None:
        home.mkdir(exist_ok=True)
        endpoints = "".join(f'[[endpoints]]\nid = "{e["id"]}"\ntask = "{e["task"]}"\n' for e in ENDPOINTS)
        (home / "config.toml").write_text(endpoints)
        self.home = home
        self.settings = {
            "PARETA_ENGINE_COMMAND": fake_engine(),
            "PARETA_REGISTRY_CATALOG": where,
            "PARETA_REGISTRY_CATALOG_KEYS": str(keys),
            "PARETA_REGISTRY_POLL_S": "0.2",
        }
        self.agent: Agent | None = None

    def start(self) -> dict[str, Any]:
        self.agent = Agent(self.home, settings=self.settings)
        return self.agent.ready()

    def until(
        self, what: str, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 120.0
    ) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        assert self.agent
        while not holds(found := self.agent.status()):
            assert time.monotonic() < deadline, f"not {what}: {json.dumps(found)}"
            time.sleep(0.1)
        return found

    def engines(self) -> dict[str, int]:
        """Process ids by endpoint."""
        return {
            e["id"]: json.loads((self.home / "engines" / f"{e['id']}-0.intent").read_text())["pid"]
            for e in ENDPOINTS
        }


def live(status: dict[str, Any]) -> bool:
    return [e["status"] for e in status["endpoints"]] == ["live", "live"]


def gauge(ready: dict[str, Any], name: str) -> float:
    metrics = httpx.get(ready["metrics_url"], timeout=120).text
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    assert found, name
    return float(found[1])


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.fixture
def node(tmp_path: Path, publisher: Publisher) -> Iterator[Callable[[str], Node]]:
    made: list[Node] = []

    def make(where: str) -> Node:
        made.append(Node(tmp_path / "home", where, publisher.root / "key.pub"))
        return made[-1]

    yield make
    for one in made:
        if one.agent:
            one.agent.__exit__()


@needs_registry
def test_a_channel_in_a_registry(tmp_path: Path, publisher: Publisher, node: Callable[[str], Node]) -> None:
    """A change of one model gives its endpoint another engine and leaves its neighbour's alone; one that fits
    nowhere ends nothing; what is unsigned is refused; the node serves while the registry is away, and starts so."""
    with Registry(tmp_path / "registry") as oci:
        where = f"oci://{oci.host}/team/catalog"
        publisher.write("second")
        first = publisher.promote(where)
        one = node(where)
        ready = one.start()
        assert one.until("live", live)["catalog"]["digest"] == first
        before = one.engines()

        publisher.write("second", engine={"max_num_seqs": 3})
        second = publisher.promote(where)
        one.until("changed", lambda s: s["catalog"]["digest"] == second and one.engines() != before)
        after = one.until("live again", live)
        assert (one.engines()["ep_first"], after["catalog"]["serial"]) == (before["ep_first"], 2)
        assert one.engines()["ep_second"] != before["ep_second"]
        running = one.engines()
        shown = {e["id"]: e["plan"]["max_num_seqs"] for e in after["endpoints"]}
        assert shown["ep_second"] == 3 != shown["ep_first"]

        (variant,) = publisher.model["variants"]
        publisher.write("second", variants=[variant | {"weights_bytes": 1 << 45}])
        publisher.promote(where)
        kept = one.until("told", lambda s: any(e["refused"] for e in s["endpoints"]))
        assert [e["plan"]["max_num_seqs"] for e in kept["endpoints"] if e["refused"]] == [3]
        assert (live(kept), one.engines()) == (True, running)
        publisher.promote(where, catalog=second)
        one.until(
            "mended",
            lambda s: s["catalog"]["digest"] == second and not any(e["refused"] for e in s["endpoints"]),
        )
        assert one.engines() == running
        publisher.write("second", engine={"max_num_seqs": 5})
        publisher.promote(where, signed=False)
        refused = one.until("refused", lambda s: bool(s["catalog"]["trouble"]))
        assert "not signed" in refused["catalog"]["trouble"]
        assert refused["catalog"]["digest"] == second
        one.until("counted", lambda _: gauge(ready, "pareta_catalog_refused") == 1)
        oci.stop()
        away = one.until("away", lambda s: "cannot be read" in str(s["catalog"]["trouble"]))
        assert live(away)
        assert gauge(ready, "pareta_catalog_age_seconds") > 0
        assert one.agent
        assert one.agent.stop() == 0

        one.start()
        offline = one.until("live without it", live)
        assert (offline["catalog"]["digest"], offline["catalog"]["serial"]) == (second, 4)
        assert [e["plan"]["max_num_seqs"] for e in offline["endpoints"] if e["id"] == "ep_second"] == [3]
        oci.start()
        oci.answering()
        back = publisher.promote(where, catalog=first)
        assert back == first
        returned = one.until("rolled back", lambda s: s["catalog"]["digest"] == first)
        assert (returned["catalog"]["trouble"], returned["catalog"]["serial"]) == (None, 6)


def test_weights_are_here_before_they_are_needed(tmp_path: Path, node: Callable[[str], Node]) -> None:
    """What the operator names is fetched while nothing wants it; its first start needs no source any more."""
    own = Publisher(tmp_path)
    (other := checkpoint(tmp_path / "other")).joinpath("LICENSE").write_text("another artifact")
    model = import_checkpoint(str(other), tmp_path / "ahead")
    own.write("second", variants=model["variants"])
    one = node(str(own.documents))
    (one.home / "config.toml").write_text('[[endpoints]]\nid = "ep_first"\ntask = "first"\n')
    one.settings |= {"PARETA_REGISTRY_PREFETCH": "second"}
    del one.settings["PARETA_REGISTRY_CATALOG_KEYS"]
    ready = one.start()
    ahead = one.until("here", lambda s: [each["state"] for each in s["prefetch"]] == ["here"])["prefetch"]
    total = sum(path.stat().st_size for path in (tmp_path / "ahead").iterdir()) - len(
        (tmp_path / "ahead" / "pareta-manifest.json").read_bytes()
    )
    assert [(each["task"], each["alias"], each["total_bytes"]) for each in ahead] == [
        ("second", "second-1", total)
    ]
    one.until("counted", lambda _: gauge(ready, r'pareta_prefetch_aliases\{state="here"\}') == 1)
    shutil.rmtree(tmp_path / "ahead")
    headers = {"Authorization": f"Bearer {ready['api_key']}"}
    asked = {"task": "second"}
    done = httpx.post(f"{ready['base_url']}/endpoints", json=asked, headers=headers, timeout=120)
    assert done.is_success, done.text
    one.until("live from what was here", live)
    assert one.until("no longer ahead", lambda s: s["prefetch"] == [])


class Server:
    """`pareta-registry serve` over a directory of published catalogs, always at one address."""

    def __init__(self, published: Path) -> None:
        self.port, self._published = free_port(), published
        self.where = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        argv = ["serve", str(self._published), "--port", str(self.port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pareta_registry", *argv], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr
        assert "serving" in self._process.stderr.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(120)
        assert self._process.stderr
        self._process.stderr.close()


def test_a_channel_over_http(tmp_path: Path, publisher: Publisher, node: Callable[[str], Node]) -> None:
    """Nothing is served from a registry that was never seen; a replayed pointer is refused, also after a restart;
    a task that is withdrawn ends."""
    published = tmp_path / "published"
    publisher.write("second")
    publisher.promote(str(published))
    replayed = (published / "channels" / "stable.json").read_bytes()
    server = Server(published)
    one = node(server.where)
    env = environment(one.home, **one.settings)
    done = subprocess.run(
        [*AGENT, "serve", "--port", "0"], env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "store_unreachable" in done.stderr) == (5, True), done.stderr
    with server:
        one.start()
        one.until("live", live)
        before = one.engines()
        publisher.write("second", license="Apache-2.0")
        publisher.promote(str(published))
        one.until("taken", lambda s: s["catalog"]["serial"] == 2)
        (published / "channels" / "stable.json").write_bytes(replayed)
        held = one.until("refused", lambda s: "serial 1" in str(s["catalog"]["trouble"]))
        assert (held["catalog"]["serial"], live(held), one.engines()) == (2, True, before)
        assert one.agent
        one.agent.stop()
        one.start()
        assert one.until("live", live)["catalog"]["serial"] == 2

        (publisher.documents / "second.yaml").rename(tmp_path / "withdrawn.yaml")
        for _ in range(2):  # the replay has set the publisher's own count back
            publisher.promote(str(published))
        gone = one.until("withdrawn", lambda s: "failed" in [e["status"] for e in s["endpoints"]])
        assert {e["id"]: e["status"] for e in gone["endpoints"]} == {
            "ep_first": "live",
            "ep_second": "failed",
        }
