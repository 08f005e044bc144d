"""What is deployed is checked by the programs that will read it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pareta_agent.config import Settings
from pareta_agent.gateway.upstream.engine_metrics import EXPORTED
from pareta_agent.telemetry.series import TABLE as SERIES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (make tools)")
    return found


def check(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_unit_is_what_systemd_expects(tmp_path):
    """systemd-analyze has nothing to say (the program's path is replaced by one that exists here)."""
    unit = (DEPLOY / "systemd" / "pareta-agent.service").read_text()
    copy = tmp_path / "pareta-agent.service"
    copy.write_text(unit.replace("/opt/pareta/venv/bin/pareta-agent", shutil.which("true")))
    assert check(program("systemd-analyze"), "verify", str(copy)).strip() == ""


def test_the_unit_outlasts_a_lame_duck_and_a_drain():
    """systemd waits longer than the unit's lame duck, the agent's default drain and the engines' stop together."""
    unit = (DEPLOY / "systemd" / "pareta-agent.service").read_text()
    lame_duck_s = float(re.search(r"^Environment=PARETA_FRONT_LAME_DUCK_S=(\d+)$", unit, re.MULTILINE)[1])
    assert lame_duck_s == 10
    waits_s = lame_duck_s + Settings().drain_timeout_s
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) >= waits_s + 60


def test_prometheus_reads_the_scrape_config():
    """promtool accepts the example configuration and the rules that it names."""
    check(program("promtool"), "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


def test_the_alert_rules_fire_when_they_should():
    """promtool runs the rules' own tests."""
    check(program("promtool"), "test", "rules", str(DEPLOY / "prometheus" / "rules_test.yml"))


def test_the_dockerfile_is_clean():
    """hadolint has nothing to say."""
    assert check(program("hadolint"), str(ROOT / "Dockerfile.cuda")).strip() == ""


def test_the_dashboard_is_what_its_table_says():
    """`make.py` writes the committed file."""
    made = check(sys.executable, str(DEPLOY / "grafana" / "make.py"))
    assert (DEPLOY / "grafana" / "node.json").read_text() == made


def expressions() -> list[str]:
    board = json.loads((DEPLOY / "grafana" / "node.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def test_the_dashboard_asks_only_for_series_that_exist():
    """A renamed series can't leave an empty panel behind."""
    asked = {name for expr in expressions() for name in re.findall(r"pareta_[a-z_]+", expr)}
    exposed = {series.name for series in SERIES} | {
        f"pareta_engine_{name}" for name, _, _ in EXPORTED.values()
    }
    assert {name.removesuffix("_bucket") for name in asked} <= exposed


def test_prometheus_reads_the_dashboards_queries(tmp_path):
    """promtool parses each, as the expression of a recording rule."""
    rules = [
        {"record": f"q:{index}", "expr": expr.replace("$__rate_interval", "5m")}
        for index, expr in enumerate(expressions())
    ]
    written = tmp_path / "rules.json"
    written.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    check(program("promtool"), "check", "rules", "--lint=none", str(written))
