"""Credentials reach the registry and nothing else: no log, error, status, metric, event or file of the node."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from catalogs import catalog, registry
from fakes.oci_registry import Registry, needs_registry
from harness import AGENT, Agent, environment, fake_engine

pytestmark = [
    needs_registry,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("htpasswd") is None, reason="needs htpasswd of apache2-utils"),
]
USER, PASSWORD, WRONG, TOKEN = "ada", "xqpassword7", "xqwrong8", "xqtoken9"


def docker_config(path: Path, host: str, password: str) -> str:
    """The file's path; what is looked for is the password and what travels in the header."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return str(path)


def secrets(password: str) -> list[str]:
    return [password, base64.b64encode(f"{USER}:{password}".encode()).decode(), TOKEN]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Registry]:
    line = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], capture_output=True, text=True, check=True)
    (tmp_path / "htpasswd").write_text(line.stdout)
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}}
    with Registry(tmp_path / "registry", auth) as found:
        yield found


def found_in(home: Path, words: list[str]) -> list[str]:
    """The files under `home` that hold one of the words."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(word.encode() in path.read_bytes() for word in words)]


def test_no_credential_is_told(tmp_path: Path, guarded: Registry) -> None:
    """At debug, with the right password and with a wrong one, and beside a token of another store."""
    documents = catalog(tmp_path)
    right = docker_config(tmp_path / "right.json", guarded.host, PASSWORD)
    target = f"oci://{guarded.host}/team/tiny:v1"
    published = registry("publish", str(tmp_path / "artifact"), target, "--docker-config", right, "--json")
    (model,) = documents.glob("tiny.yaml")
    document = yaml.safe_load(model.read_text())
    document["variants"][0]["source"] = json.loads(published)["source"]
    model.write_text(yaml.safe_dump(document))
    (tmp_path / "token").write_text(TOKEN)
    settings = {
        "PARETA_ENGINE_COMMAND": fake_engine(),
        "PARETA_LOG_LEVEL": "debug",
        "PARETA_REGISTRY_HF_ENDPOINT": "http://127.0.0.1:9",
        "PARETA_REGISTRY_HF_TOKEN_FILE": str(tmp_path / "token"),
        "PARETA_REGISTRY_DOCKER_CONFIG": right,
    }
    wish = ("--catalog", str(documents), "--task", "secret-task", "--no-canary")
    with Agent(tmp_path / "home", *wish, settings=settings) as agent:
        ready = agent.ready()
        metrics = httpx.get(ready["metrics_url"], timeout=120).text
        status = subprocess.run([*AGENT, "status", "--json"], env=agent.env, capture_output=True, text=True)
        doctor = subprocess.run([*AGENT, "doctor", "--json"], env=agent.env, capture_output=True, text=True)
    assert status.returncode == 0, status.stderr
    told = [metrics, *[text for done in (status, doctor) for text in (done.stdout, done.stderr)]]
    told += [agent.stderr(), json.dumps(agent.events)]
    assert [word for word in secrets(PASSWORD) for text in told if word in text] == []
    assert found_in(tmp_path / "home", secrets(PASSWORD)) == []

    wrong = {"PARETA_REGISTRY_DOCKER_CONFIG": docker_config(tmp_path / "wrong.json", guarded.host, WRONG)}
    argv = [*AGENT, "serve", "--port", "0", *wish]
    env = environment(tmp_path / "other", **{**settings, **wrong})
    done = subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, "unauthorized" in done.stderr, guarded.host in done.stderr) == (5, True, True)
    assert [word for word in secrets(WRONG) if word in done.stdout + done.stderr] == []
    assert found_in(tmp_path / "other", secrets(WRONG)) == []
