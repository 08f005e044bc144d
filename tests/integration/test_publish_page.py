"""The page that tells how to publish a model: its commands work as they are written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
from catalogs import checkpoint
from fakes.oci_registry import Registry, needs_registry
from fakes.ports import free_port
from harness import environment

from pareta_agent.settings import RegistrySection

pytestmark = [pytest.mark.slow, needs_registry]
PAGE = (Path(__file__).parents[2] / "registry" / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands_work_word_for_word(tmp_path: Path) -> None:
    """From a checkpoint to a verified pull, a signed channel, a promotion and a rollback; then it is served."""
    publish, channels, serve = blocks("sh")
    checkpoint(tmp_path / "my-checkpoint")
    env = environment(tmp_path / "home") | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with Registry(tmp_path / "registry") as registry:
        for commands in (publish, channels):
            done = subprocess.run(
                ["sh", "-e", "-c", commands],
                cwd=tmp_path,
                env=env | {"REGISTRY": registry.host},
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stdout + done.stderr
    assert "what will change" in done.stdout
    assert '"What callers ask for" -> "What callers now ask for"' in done.stdout.replace("'", '"')
    pulled = list((tmp_path / "home" / "weights").glob("sha256-*/model.safetensors"))
    assert [path.read_bytes() for path in pulled] == [
        (tmp_path / "my-checkpoint" / "model.safetensors").read_bytes()
    ]
    assert len(list((tmp_path / "published" / "catalogs").iterdir())) == 1
    port = str(free_port())
    with subprocess.Popen(
        ["sh", "-c", f"exec {serve.replace('8090', port)}"], cwd=tmp_path, env=env
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}/channels/stable.json"
            assert b"payloadType" in read(url)
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0


def read(url: str, tries: int = 600) -> bytes:
    import time

    for _ in range(tries):
        try:
            with urllib.request.urlopen(url, timeout=120) as answer:
                return bytes(answer.read())
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_the_nodes_settings_are_settings() -> None:
    """What the page puts into config.toml is accepted."""
    (text,) = blocks("toml")
    assert RegistrySection(**tomllib.loads(text)["registry"]).channel == "stable"
