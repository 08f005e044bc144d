"""A model that brings code: it runs only where the catalog's entry asks for it and the node allows it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from catalogs import checkpoint, registry
from harness import AGENT, Agent, environment, fake_engine

pytestmark = pytest.mark.slow


def catalog(root: Path, trusted: bool) -> Path:
    """A checkpoint with a file of Python, imported as its publisher must, and a task on it."""
    source = checkpoint(root / "checkpoint")
    (source / "modeling_tiny.py").write_text("raise SystemExit('it ran')\n")
    plain = json.loads(registry("import", str(source), str(root / "plain"), "--json"))
    assert not (root / "plain" / "modeling_tiny.py").exists()
    argv = ("import", str(source), str(root / "artifact"), "--with-code", "--json")
    model: dict[str, Any] = json.loads(registry(*argv)) | {"id": "tiny", "license": "MIT"}
    assert (plain.get("trust_remote_code"), model["trust_remote_code"]) == (None, True)
    model["trust_remote_code"] = trusted
    task = {"kind": "task", "id": "t", "title": "T", "aliases": [{"id": "t-1", "model": "tiny"}]}
    documents = root / "documents"
    documents.mkdir()
    (documents / "all.yaml").write_text(yaml.safe_dump_all([task | {"recommended": "t-1"}, model]))
    return documents


def refusal(home: Path, documents: Path, *argv: str, **settings: str) -> str:
    env = environment(home, PARETA_ENGINE_COMMAND=fake_engine(), **settings)
    done = subprocess.run(
        [*AGENT, *argv, "--catalog", str(documents)], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 5, done.stderr
    return done.stderr


def test_catalog_and_node_must_both_trust_it(home: Path, tmp_path: Path) -> None:
    """Neither alone starts or fetches it, and the refusal says which setting is missing; both together do."""
    documents = catalog(tmp_path, trusted=True)
    for argv in (("serve", "--port", "0", "--task", "t"), ("pull", "t")):
        said = refusal(home, documents, *argv)
        assert "remote_code_refused" in said
        assert "registry.trust_remote_code" in said
        assert "alias t-1" in said
    settings = {
        "PARETA_ENGINE_COMMAND": fake_engine(),
        "PARETA_REGISTRY_TRUST_REMOTE_CODE": "true",
        "PARETA_REGISTRY_CATALOG": str(documents),
        "PARETA_TASK": "t",
    }
    with Agent(home, settings=settings) as agent:
        agent.ready()
        intent = json.loads((home / "engines" / "ep_t-0.intent").read_text())
        argv = Path(f"/proc/{intent['pid']}/cmdline").read_bytes().split(b"\0")
    assert b"--trust-remote-code" in argv


def test_code_behind_the_catalogs_back_is_not_fetched(home: Path, tmp_path: Path) -> None:
    """An artifact with code whose entry does not say so is refused, whatever the node allows."""
    said = refusal(
        home, catalog(tmp_path, trusted=False), "pull", "t", PARETA_REGISTRY_TRUST_REMOTE_CODE="true"
    )
    assert "remote_code_refused" in said
    assert "modeling_tiny.py" in said
