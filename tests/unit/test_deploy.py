"""What is deployed is checked by the programs that will read it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (make tools)")
    return found


def check(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_unit_is_what_systemd_expects(tmp_path):
    """systemd-analyze has nothing to say (the program's path is replaced by one that exists here)."""
    unit = (DEPLOY / "systemd" / "pareta-agent.service").read_text()
    copy = tmp_path / "pareta-agent.service"
    copy.write_text(unit.replace("/opt/pareta/venv/bin/pareta-agent", shutil.which("true")))
    assert check(program("systemd-analyze"), "verify", str(copy)).strip() == ""


def test_the_unit_outlasts_a_drain():
    """systemd waits longer than the agent's default drain and engine stop together."""
    unit = (DEPLOY / "systemd" / "pareta-agent.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) >= 90


def test_prometheus_reads_the_scrape_config():
    """promtool accepts the example configuration and the rules that it names."""
    check(program("promtool"), "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


def test_the_alert_rules_fire_when_they_should():
    """promtool runs the rules' own tests."""
    check(program("promtool"), "test", "rules", str(DEPLOY / "prometheus" / "rules_test.yml"))


def test_the_dockerfile_is_clean():
    """hadolint has nothing to say."""
    assert check(program("hadolint"), str(ROOT / "Dockerfile.cuda")).strip() == ""
