"""A start whose weights are wrong: a message that says what to do, and nothing half done."""

import subprocess

import pytest
from catalogs import catalog
from harness import AGENT, environment, fake_engine, processes_of

pytestmark = pytest.mark.slow


def serve(home, documents, *flags, wrap=(), **settings):
    env = environment(home, PARETA_ENGINE_COMMAND=fake_engine(), **settings)
    argv = [
        *wrap,
        *AGENT,
        "serve",
        "--port",
        "0",
        "--catalog",
        str(documents),
        "--task",
        "secret-task",
        *flags,
    ]
    return subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )


def test_altered_weights_are_never_loaded(home, tmp_path):
    """One flipped byte: the artifact and the remedy are named, the engine never starts."""
    documents = catalog(tmp_path)
    weights = tmp_path / "artifact" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    done = serve(home, documents)
    assert done.returncode == 5, done.stderr
    assert "digest_mismatch" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in (home / "weights").glob("sha256-*") if "." not in p.name] == []
    assert processes_of(home) == []


def test_weights_that_are_gone_name_the_place(home, tmp_path):
    """The directory is named on the owner's terminal."""
    documents = catalog(tmp_path)
    (tmp_path / "artifact" / "model.safetensors").unlink()
    done = serve(home, documents)
    assert done.returncode == 5, done.stderr
    assert "model.safetensors" in done.stderr


def test_a_home_that_may_not_be_written_says_so(tmp_path):
    """Before anything is started."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    done = serve(blocker / "home", tmp_path)
    assert done.returncode == 4, done.stderr
    assert "home_unwritable" in done.stderr
    assert "PARETA_HOME" in done.stderr
