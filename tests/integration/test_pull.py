"""`pull` and `weights`: the bytes ahead of a start, and proof that they are still right."""

import json
import subprocess

import pytest
from catalogs import catalog, registry
from harness import AGENT, environment

pytestmark = pytest.mark.slow


def agent(home, *argv):
    return subprocess.run([*AGENT, *argv], env=environment(home), capture_output=True, text=True, timeout=120)


def test_what_was_pulled_is_verified_and_an_altered_byte_is_found(home, tmp_path):
    """Pull, verify, flip a byte, verify again, remove."""
    documents = catalog(tmp_path)
    pulled = agent(home, "pull", "secret-task", "--catalog", str(documents), "--json")
    assert pulled.returncode == 0, pulled.stderr
    path = home / "weights" / json.loads(pulled.stdout)["path"].rsplit("/", 1)[1]
    assert sorted(p.name for p in path.iterdir())[0] == "config.json"
    assert "✓ alias-1  fetch" in pulled.stderr
    assert agent(home, "weights", "verify").returncode == 0
    digest = agent(home, "weights", "ls").stdout.strip()
    weights = path / "model.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    again = agent(home, "weights", "verify", "--json")
    assert again.returncode == 5
    assert json.loads(again.stdout) | {"problem": ""} == {"digest": digest, "ok": False, "problem": ""}
    assert agent(home, "weights", "remove", digest).returncode == 0
    assert agent(home, "weights", "ls").stdout == ""


def test_a_variant_that_does_not_exist_names_those_that_do(home, tmp_path):
    """A wrong name is the operator's error."""
    done = agent(home, "pull", "secret-task", "--catalog", str(catalog(tmp_path)), "--variant", "fp4")
    assert done.returncode == 2
    assert "f16" in done.stderr


def test_a_node_that_pins_keys_pulls_only_what_they_signed(home, tmp_path):
    """Unsigned weights are refused with the way out; once signed they come."""
    documents, key = catalog(tmp_path), tmp_path / "key"
    registry("keygen", str(key))
    pull = ("pull", "secret-task", "--catalog", str(documents))
    pinned = environment(home, PARETA_REGISTRY_ARTIFACT_KEYS=f"{key}.pub")

    def run():
        return subprocess.run([*AGENT, *pull], env=pinned, capture_output=True, text=True, timeout=120)

    refused = run()
    assert (refused.returncode, "signature_missing" in refused.stderr) == (5, True)
    assert "pareta-registry sign" in refused.stderr
    registry("sign", str(tmp_path / "artifact"), "--key", str(key))
    assert run().returncode == 0
