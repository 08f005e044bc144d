"""The description that the node serves is the committed one, and what it says is how the API behaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pareta_agent.plane.openapi_documents import PUBLIC

pytestmark = pytest.mark.slow
EXAMPLES_A_ROUTE = 12


def test_the_node_serves_the_committed_description(api) -> None:
    """To anybody: it is how a client learns that a key is wanted."""
    assert httpx.get(f"{api.root}/v1/openapi.json", timeout=120).json() == json.loads(PUBLIC.read_text())


@pytest.mark.timeout(660)
def test_the_api_behaves_as_described(api, tmp_path: Path) -> None:
    """Schemathesis: odd and missing fields, wrong types, no key; every answer's status, type and body are described."""
    program = Path(sys.executable).with_name("schemathesis")
    argv = [program, "run", PUBLIC, "--url", api.root, "-H", f"Authorization: Bearer {api.key}"]
    argv += ["--max-examples", str(EXAMPLES_A_ROUTE), "--phases", "examples,coverage,fuzzing", "--seed", "1"]
    argv += ["--request-timeout", "120", "--no-color", "--suppress-health-check", "all"]
    # `match` is a path of its own and an id of another; which two moments make a window, no schema says.
    argv += ["--exclude-checks", "unsupported_method,positive_data_acceptance"]
    done = subprocess.run(
        [str(each) for each in argv], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-6000:]
