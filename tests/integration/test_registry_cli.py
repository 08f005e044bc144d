"""`pareta-registry` as a program: publish to a registry, serve catalogs, import from a mirror."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from fakes.hub import COMMIT, Hub
from fakes.oci_registry import Registry, needs_registry
from fakes.tiny_gguf import write_tiny_gguf

from pareta_registry.artifacts.stored_manifest import read_manifest
from pareta_registry.catalog import Model
from pareta_registry.stores import open_store

pytestmark = pytest.mark.slow
PROGRAM = [sys.executable, "-c", "from pareta_registry.cli.main import main; main()"]


def run(*argv: str, code: int = 0) -> str:
    done = subprocess.run([*PROGRAM, *argv], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@needs_registry
async def test_from_a_checkpoint_to_a_registry(tmp_path: Path) -> None:
    """import, publish, add: the printed source is pinned by digest and holds what the catalog names."""
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    await asyncio.to_thread(run, "import", str(source), str(tmp_path / "artifact"))
    with Registry(tmp_path / "registry") as registry:
        target = f"oci://{registry.host}/team/tiny:v1"
        printed = json.loads(
            await asyncio.to_thread(run, "publish", str(tmp_path / "artifact"), target, "--json")
        )
        assert printed["source"].startswith(f"oci://{registry.host}/team/tiny@sha256:")
        store = open_store(printed["source"])
        manifest = await read_manifest(store, printed["artifact"])
        await store.close()
        assert manifest.total_bytes == printed["bytes"]
    (tmp_path / "catalog").mkdir()
    flags = ("--id", "tiny", "--license", "MIT", "--source", printed["source"])
    await asyncio.to_thread(run, "add", str(tmp_path / "artifact"), str(tmp_path / "catalog"), *flags)
    assert printed["source"] in (tmp_path / "catalog" / "tiny.yaml").read_text()


async def test_import_from_a_mirror(tmp_path: Path) -> None:
    """What a hub holds becomes an artifact and a model document that lists its files; pickles stay there."""
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    await asyncio.to_thread(run, "import", str(source), str(tmp_path / "artifact"))
    (tmp_path / "artifact" / "pytorch_model.bin").write_bytes(b"pickle")
    async with Hub(tmp_path / "artifact") as hub:
        where = f"hf://org/model@{COMMIT}"
        argv = ("import", where, str(tmp_path / "copy"), "--hf-endpoint", hub.endpoint, "--json")
        model = Model.model_validate_json(await asyncio.to_thread(run, *argv))
    assert model.variants[0].source == where
    assert {file.path for file in model.variants[0].files} >= {"config.json", "model.safetensors"}
    assert not (tmp_path / "copy" / "pytorch_model.bin").exists()


def test_serve_listens_and_ends(tmp_path: Path) -> None:
    """The read API says where it is, answers, and leaves on SIGTERM; a taken port is a message."""
    run("init", str(tmp_path / "catalog"))
    run("promote", str(tmp_path / "catalog"), str(tmp_path / "published"))
    argv = [*PROGRAM, "serve", str(tmp_path / "published"), "--port", "0"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        url = process.stderr.readline().split()[-1]
        with urllib.request.urlopen(f"{url}/channels/stable.json", timeout=120) as answer:
            assert json.load(answer)["payloadType"] == "application/vnd.pareta.channel.v1+json"
        port = url.rsplit(":", 1)[1]
        assert "is no directory" in run("serve", str(tmp_path / "nowhere"), "--port", "0", code=5)
        assert "another --port" in run("serve", str(tmp_path / "published"), "--port", port, code=5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
